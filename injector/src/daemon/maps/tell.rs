//! Tells what was concluded while a run lasts, and at its end: findings to
//! stdout, the table to stderr, in place if that is a terminal.

use std::{
    io::{self, IsTerminal as _, Write as _, stderr, stdout},
    time::{Duration, Instant},
};

use crate::{
    daemon::Format,
    explain::maps::Trace,
    output::{
        maps_finding, maps_report,
        maps_table::{self, Screen},
    },
};

/// How often.
const PERIOD: Duration = Duration::from_secs(1);
/// How often where each time is a line that stays.
const PERIOD_OF_LINES: Duration = Duration::from_secs(10);

/// Tells of the traces of a run.
pub struct Teller {
    format: Format,
    pids: Vec<u32>,
    screen: Screen,
    on_terminal: bool,
    /// The UI shows all, so nothing is told before the end.
    silent: bool,
    next: Instant,
    next_line: Instant,
}

impl Teller {
    /// Of these processes, in the order of their traces.
    pub fn new(format: Format, pids: Vec<u32>, silent: bool) -> Self {
        let now = Instant::now();
        Self {
            format,
            pids,
            screen: Screen::default(),
            silent,
            on_terminal: stderr().is_terminal(),
            next: now + PERIOD,
            next_line: now + PERIOD_OF_LINES,
        }
    }

    /// Whether it is time to tell what is new.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Tells what is new.
    pub fn tell(&mut self, traces: &mut [Trace]) -> io::Result<()> {
        let now = Instant::now();
        self.next = now + PERIOD;
        if self.silent {
            return Ok(());
        }
        self.news(traces)?;
        if self.format == Format::Json {
            return Ok(());
        }
        if self.on_terminal
            && let [trace] = traces
        {
            // A closed stderr is no reason to end a run.
            let _ = self.screen.draw(&mut stderr().lock(), trace);
        } else if now >= self.next_line {
            self.next_line = now + PERIOD_OF_LINES;
            for trace in traces {
                let _ = maps_table::line(&mut stderr().lock(), trace);
            }
        }
        Ok(())
    }

    fn news(&mut self, traces: &mut [Trace]) -> io::Result<()> {
        let mut out = stdout().lock();
        for (pid, trace) in self.pids.iter().zip(traces) {
            for finding in trace.news() {
                let _ = self.screen.clear(&mut stderr().lock());
                match self.format {
                    Format::Json => maps_finding::json(&mut out, *pid, &finding)?,
                    Format::Table => {
                        maps_finding::text(&mut out, &finding)?;
                        out.write_all(b"\n")?;
                    }
                }
            }
        }
        out.flush()
    }

    /// Makes room for something else.
    pub fn clear(&mut self) {
        let _ = self.screen.clear(&mut stderr().lock());
    }

    /// Tells all at the end.
    pub fn finish(&mut self, traces: &mut [Trace]) -> io::Result<()> {
        if !self.silent {
            self.news(traces)?;
        }
        self.clear();
        let mut out = stdout().lock();
        for (pid, trace) in self.pids.iter().zip(traces) {
            match self.format {
                Format::Json => maps_report::json(&mut out, *pid, trace)?,
                Format::Table => {
                    maps_report::text(&mut out, trace)?;
                    out.write_all(b"\n")?;
                }
            }
        }
        out.flush()
    }
}
