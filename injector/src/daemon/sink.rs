//! Where sends and the status go while a run lasts.

use std::io::{self, BufWriter, IsTerminal as _, Stderr, Stdout, Write};

use anyhow::Result;
use injector_ebpf::SendRecord;
use std::time::Duration;

use crate::{
    explain::{RunInfo, SendView, Summary, Totals},
    output::{json::Json, line::Lines, status, summary},
};

/// How data is written to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines and a report for people.
    #[default]
    Table,
    /// One JSON object per line, see docs/json.md.
    Json,
}

/// Which sends are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verbosity {
    /// Every send, not only flagged, failed and signalled ones.
    pub all: bool,
    /// Each number of the final report is explained.
    pub explain: bool,
    /// No status line.
    pub quiet: bool,
}

/// The open outputs.
pub struct Sink {
    stdout: BufWriter<Stdout>,
    stderr: Stderr,
    format: Format,
    verbosity: Verbosity,
    lines: Lines,
    json: Json,
    status_on_screen: bool,
}

impl Sink {
    /// Writes times relative to `start_ns`.
    pub fn new(format: Format, verbosity: Verbosity, start_ns: u64) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            stdout: BufWriter::with_capacity(1 << 16, io::stdout()),
            stderr: io::stderr(),
            format,
            verbosity,
            lines: Lines::new(start_ns, verbosity.all, colour),
            json: Json::default(),
            status_on_screen: false,
        }
    }

    /// One send.
    pub fn send(&mut self, record: &SendRecord) -> io::Result<()> {
        match self.format {
            Format::Table => {
                self.clear_status();
                self.lines.send(&mut self.stdout, record).map(|_| ())
            }
            Format::Json if self.verbosity.all || SendView::new(record).noteworthy() => {
                self.json.send(&mut self.stdout, record)
            }
            Format::Json => Ok(()),
        }
    }

    /// The counters so far: for people on stderr, and in place when that is a
    /// terminal; as JSON among the data.
    pub fn status(&mut self, totals: &Totals, elapsed: Duration) -> io::Result<()> {
        if self.verbosity.quiet {
            return Ok(());
        }
        match self.format {
            Format::Json => self.json.status(&mut self.stdout, totals, elapsed),
            Format::Table => {
                let mut line = Vec::new();
                status::write(&mut line, totals, elapsed)?;
                self.clear_status();
                if self.stderr.is_terminal() {
                    while line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    self.status_on_screen = true;
                }
                self.stderr.write_all(&line)
            }
        }
    }

    /// What happened to targets and the run, for people.
    pub fn note(&mut self, text: &str) {
        self.clear_status();
        // A closed stderr is no reason to end a run.
        let _ = writeln!(self.stderr, "injector: {text}");
    }

    /// The report at the end.
    pub fn summary(&mut self, info: &RunInfo, summary: &Summary, totals: &Totals) -> Result<()> {
        self.clear_status();
        match self.format {
            Format::Table => {
                summary::write(
                    &mut self.stdout,
                    info,
                    summary,
                    totals,
                    self.verbosity.explain,
                )?;
            }
            Format::Json => self.json.summary(&mut self.stdout, info, summary, totals)?,
        }
        self.flush()?;
        Ok(())
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    fn clear_status(&mut self) {
        if std::mem::take(&mut self.status_on_screen) {
            let _ = write!(self.stderr, "\r\x1b[K");
        }
    }
}
