//! Many threads that send and can be asked how it goes.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Target;

/// A running `delayed_senders`.
pub struct Senders {
    /// The program.
    pub target: Target,
    /// How many there are.
    pub threads: usize,
}

/// What it says of itself; see the top of `delayed_senders.c`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Report {
    pub inside: usize,
    pub longest_ns: u64,
    pub sends: u64,
    pub failed: u64,
    pub slow: u64,
    pub min_ns: u64,
    pub cpu_ns: u64,
    pub signals: u64,
}

impl Senders {
    /// Starts so many threads that pause for `gap` between sends, once they are
    /// let go.
    pub fn start(threads: usize, gap: Duration, more: &str) -> Self {
        let arguments = format!("{threads} {} {more}", gap.as_micros());
        Self {
            target: Target::start("delayed_senders", &arguments),
            threads,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.target.pid
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        self.target.go();
    }

    /// How it goes.
    pub fn report(&mut self) -> Report {
        self.target.say("report");
        let line = self.target.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Forgets the sends so far.
    pub fn reset(&mut self) {
        self.target.say("reset");
    }

    /// Waits until every thread is inside `send()` at one moment.
    #[track_caller]
    pub fn await_asleep(&mut self, limit: Duration) -> Report {
        let end = Instant::now() + limit;
        loop {
            let report = self.report();
            if report.inside == self.threads {
                return report;
            }
            assert!(Instant::now() < end, "not all are asleep: {report:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until no thread is in a send that it was in at `since`. Returns
    /// how long after `since` that was seen.
    #[track_caller]
    pub fn await_free(&mut self, since: Instant, limit: Duration) -> Duration {
        loop {
            let asked = since.elapsed();
            let report = self.report();
            if u128::from(report.longest_ns) < asked.as_nanos() {
                return asked;
            }
            assert!(
                asked < limit,
                "some sleep {asked:?} after they were to be let go: {report:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
