//! Files that `injector report` makes.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};

use super::args::ReportFiles;
use crate::{
    output::{
        folded, html,
        perfetto::{self, Began, Timeline},
        pprof::{self, Taken},
        profile::{Profile, Profiler},
    },
    recording::replay::{Replayed, Watcher},
};

/// Sees what passes by for those files that are wanted.
pub struct Files<'a> {
    flags: &'a ReportFiles,
    seen: Option<html::Seen>,
    timeline: Option<Timeline>,
    profiler: Option<Profiler>,
}

impl<'a> Files<'a> {
    /// Those that these flags ask for.
    pub fn new(flags: &'a ReportFiles) -> Self {
        let profiles = [&flags.pprof, &flags.folded, &flags.flamegraph];
        let wanted = profiles.iter().any(|directory| directory.is_some());
        Self {
            flags,
            seen: flags.html.is_some().then(html::Seen::default),
            timeline: flags.perfetto.is_some().then(Timeline::default),
            profiler: wanted.then(Profiler::default),
        }
    }

    /// Who has to see the recording pass by.
    pub fn watchers(&mut self) -> impl Iterator<Item = &mut dyn Watcher> {
        let seen = self.seen.as_mut().map(|it| it as &mut dyn Watcher);
        let timeline = self.timeline.as_mut().map(|it| it as &mut dyn Watcher);
        let profiler = self.profiler.as_mut().map(|it| it as &mut dyn Watcher);
        seen.into_iter().chain(timeline).chain(profiler)
    }

    /// Writes them, and says so on stderr.
    pub fn write(self, replayed: &Replayed) -> Result<()> {
        let programs = replayed.programs.iter();
        let lost: u64 = programs.map(|program| program.trace.lost_spans()).sum();
        if lost > 0 {
            eprintln!("injector: {lost} waits, holds or iterations had no room and are in no file");
        }
        if let (Some(path), Some(seen)) = (&self.flags.html, &self.seen) {
            file(path, |out| html::write(out, replayed, seen))?;
        }
        if let (Some(path), Some(timeline)) = (&self.flags.perfetto, &self.timeline) {
            let began = Began {
                monotonic_ns: replayed.info.start_ns,
                unix_ns: replayed.host.started_unix_ns,
            };
            file(path, |out| {
                perfetto::write(out, timeline, began, &replayed.programs)
            })?;
            if timeline.left_out > 0 {
                eprintln!(
                    "injector: {}: {} things are not in it: there are too many of their kind, or \
                     it is not known when they were",
                    path.display(),
                    timeline.left_out
                );
            }
        }
        let Some(profiler) = self.profiler else {
            return Ok(());
        };
        let program = replayed.programs.first();
        let taken = Taken {
            unix_ns: replayed.host.started_unix_ns,
            elapsed_ns: replayed.info.elapsed.as_nanos() as u64,
            program: program.map_or("", |program| &program.file),
        };
        for profile in profiler.profiles(&replayed.programs) {
            if profile.samples.is_empty() {
                eprintln!(
                    "injector: no {} profile: the recording has none of that",
                    profile.name
                );
                continue;
            }
            profiles(self.flags, &profile, taken)?;
        }
        Ok(())
    }
}

fn profiles(flags: &ReportFiles, profile: &Profile, taken: Taken<'_>) -> Result<()> {
    let name = profile.name;
    if let Some(directory) = &flags.pprof {
        let path = directory.join(format!("{name}.pb.gz"));
        file(&path, |out| pprof::write(out, profile, taken))?;
    }
    if let Some(directory) = &flags.folded {
        let path = directory.join(format!("{name}.folded"));
        file(&path, |out| folded::write(out, profile))?;
    }
    if let Some(directory) = &flags.flamegraph {
        let path = directory.join(format!("{name}.svg"));
        file(&path, |out| folded::flamegraph(out, profile))?;
    }
    Ok(())
}

/// Makes a file, and its directory if it is not there.
fn file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let make = || -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut out = BufWriter::new(File::create(path)?);
        write(&mut out)?;
        out.flush()
    };
    let shown = path.display();
    make().with_context(|| format!("cannot write {shown}"))?;
    eprintln!("injector: wrote {shown}");
    Ok(())
}
