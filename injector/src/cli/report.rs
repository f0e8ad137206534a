//! `injector report`: what a recorded run was, once more.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _, stdout},
    path::Path,
};

use anyhow::{Context as _, Result};
use injector_ebpf::SendRecord;
use memmap2::Mmap;

use super::{args::Report, report_files::Files};
use crate::{
    daemon::Format,
    explain::maps::Finding,
    go::Frame,
    output::{Clean, findings, json::Json, maps_finding, maps_report, summary},
    recording::{
        read::Damage,
        replay::{Replayed, Watcher, replay},
    },
};

/// Reads a recording and reports; needs neither root nor the same machine.
pub fn run(flags: &Report) -> Result<u8> {
    let path = flags.file.display();
    let map = open(&flags.file).with_context(|| format!("cannot read {path}"))?;
    let out = BufWriter::with_capacity(1 << 16, stdout().lock());
    let mut lines = SendLines {
        out,
        json: Json::default(),
        failed: None,
    };
    let mut files = Files::new(&flags.files);
    let mut watchers: Vec<&mut dyn Watcher> = files.watchers().collect();
    if flags.output == Format::Json && flags.finding.is_none() {
        watchers.push(&mut lines);
    }
    let replayed = replay(&map, &mut watchers).with_context(|| format!("cannot read {path}"))?;
    let SendLines {
        mut out,
        json,
        failed,
    } = lines;
    failed.map_or(Ok(()), Err)?;
    let programs = replayed.programs.iter().map(|it| (it.pid, &it.trace));
    let findings = findings::all(programs);
    match (flags.finding, flags.output) {
        (Some(number), format) => {
            let (pid, finding) = numbered(&findings, number)?;
            match format {
                Format::Table => findings::evidence(&mut out, *pid, finding)?,
                Format::Json => maps_finding::json(&mut out, *pid, finding)?,
            }
        }
        (None, Format::Table) => {
            table(&mut out, &replayed)?;
            if !replayed.programs.is_empty() {
                findings::text(&mut out, &findings, Some(&flags.file))?;
            }
        }
        (None, Format::Json) => objects(&mut out, json, &replayed)?,
    }
    out.flush()?;
    files.write(&replayed)?;
    tell_damage(&flags.file, replayed.damage);
    Ok(0)
}

/// They are numbered from 1.
fn numbered(findings: &[(u32, Finding)], number: usize) -> Result<&(u32, Finding)> {
    let found = number.checked_sub(1).and_then(|index| findings.get(index));
    found.with_context(|| match findings.len() {
        0 => format!("--finding {number}: there are no findings in this recording"),
        count => format!("--finding {number}: the findings have numbers from 1 to {count}"),
    })
}

/// Writes each send as JSON.
struct SendLines<W> {
    out: W,
    json: Json,
    failed: Option<io::Error>,
}

impl<W: io::Write> Watcher for SendLines<W> {
    fn send(&mut self, send: &SendRecord, _stack: &[Frame]) {
        if self.failed.is_none() {
            self.failed = self.json.send(&mut self.out, send).err();
        }
    }
}

fn table(out: &mut dyn io::Write, replayed: &Replayed) -> io::Result<()> {
    let host = &replayed.host;
    write!(
        out,
        "recorded by injector {} on Linux {} ({}",
        Clean(&host.injector),
        Clean(&host.kernel),
        Clean(&host.machine)
    )?;
    match host.cpus {
        0 => writeln!(out, ")")?,
        cpus => writeln!(out, ", {cpus} CPUs)")?,
    }
    for note in &replayed.notes {
        writeln!(out, "  {}", Clean(note))?;
    }
    out.write_all(b"\n")?;
    if let Some(sends) = &replayed.sends {
        summary::write(out, &replayed.info, sends, &replayed.totals, false)?;
    }
    for program in &replayed.programs {
        let version = program.go_version.as_deref().unwrap_or("an unknown Go");
        let (pid, file) = (program.pid, Clean(&program.file));
        writeln!(
            out,
            "\nprocess {pid}: {file}, built with {}",
            Clean(version)
        )?;
        maps_report::text(out, &program.trace)?;
        out.write_all(b"\n")?;
    }
    for told in &replayed.told {
        writeln!(out, "{}", told.text)?;
    }
    Ok(())
}

fn objects(out: &mut dyn io::Write, mut json: Json, replayed: &Replayed) -> io::Result<()> {
    if let Some(sends) = &replayed.sends {
        json.summary(out, &replayed.info, sends, &replayed.totals)?;
    }
    for program in &replayed.programs {
        maps_report::json(out, program.pid, &program.trace)?;
    }
    for told in &replayed.told {
        writeln!(out, "{}", told.json)?;
    }
    Ok(())
}

/// On stderr: what is missing is no part of the report.
fn tell_damage(path: &Path, damage: Damage) {
    let path = path.display();
    if damage.places > 0 {
        eprintln!(
            "injector: {path}: {} bytes in {} places are damaged or cut off, and are not in this \
             report",
            damage.bytes, damage.places
        );
    }
    if damage.unknown_items > 0 {
        eprintln!(
            "injector: {path}: {} items were written by a newer injector and are not in this report",
            damage.unknown_items
        );
    }
}

fn open(path: &Path) -> Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: only read; a file that is changed meanwhile gives wrong bytes, which
    // the reader takes for damage. One that is cut short while it is read ends
    // the process, as with any program that maps files.
    Ok(unsafe { Mmap::map(&file) }?)
}
