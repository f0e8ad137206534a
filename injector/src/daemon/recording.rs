//! The recording of a run, from its beginning to its end.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use crate::{
    explain::{RunInfo, Totals},
    kernel::host::Host,
    recording::{
        run,
        schema::{Content, Program},
        write::Recorder,
    },
};

/// What failed when the disk is full, or gone.
const NOT_RECORDED: &str = "cannot write the recording";

/// A run that is recorded.
pub struct Recording {
    /// Where things are recorded.
    pub recorder: Recorder,
    path: PathBuf,
    started_unix: Duration,
}

impl Recording {
    /// Makes the file, which must not be there yet.
    pub fn create(path: &Path) -> Result<Self> {
        let recorder = Recorder::create(path)
            .with_context(|| format!("cannot record in {}", path.display()))?;
        Ok(Self {
            recorder,
            path: path.to_owned(),
            started_unix: Duration::ZERO,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says what is run, since when, and which programs are traced: before
    /// anything else.
    pub fn begin(
        &mut self,
        info: &RunInfo,
        start: Instant,
        programs: impl IntoIterator<Item = Program>,
    ) -> Result<()> {
        self.started_unix = (SystemTime::now() - start.elapsed()).duration_since(UNIX_EPOCH)?;
        let run = run::begun(info, Host::read().release, self.started_unix);
        self.recorder.add_to_all(Content::Run(run));
        for program in programs {
            self.recorder.add_to_all(Content::Program(program));
        }
        self.flush()
    }

    /// Puts what was recorded so far into the file.
    pub fn flush(&mut self) -> Result<()> {
        self.recorder.flush().context(NOT_RECORDED)
    }

    /// Says how the run ended, and closes the file; where it is, for people.
    pub fn end(mut self, info: &RunInfo, totals: &Totals) -> Result<String> {
        let mut run = run::begun(info, Host::read().release, self.started_unix);
        run.end = Some(run::ended(info, totals));
        self.recorder.add(Content::Run(run));
        let bytes = self.recorder.finish().context(NOT_RECORDED)?;
        Ok(format!(
            "recorded in {} ({bytes} bytes)",
            self.path.display()
        ))
    }
}
