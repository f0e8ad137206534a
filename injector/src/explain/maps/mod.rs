//! What goroutines do with maps and locks: from single events to who touches
//! what, who waits for whom, and what may go wrong.
//!
//! A [`Trace`] is of one program. It is fed events in the order of time, told
//! when which kinds of events were seen, and told what addresses stand for; it
//! reads nothing itself.

mod fact;
mod finding;
mod symbols;
mod windows;

use injector_ebpf::go::EventRecord;

use crate::go::{MapKind, Offsets};

pub use fact::{Fact, Unknown};
pub use finding::{About, Claim, Confidence, Finding, Party, Seen};
pub use symbols::Symbols;
pub use windows::Kinds;

use windows::Windows;

/// All that is known of one program's maps and locks.
#[derive(Debug)]
pub struct Trace {
    windows: Windows,
    events: u64,
}

impl Trace {
    /// Of a program with this kind of maps and these offsets, traced from
    /// `start_ns` on (`CLOCK_MONOTONIC`).
    pub fn new(_start_ns: u64, _maps: MapKind, _offsets: &Offsets) -> Self {
        Self {
            windows: Windows::default(),
            events: 0,
        }
    }

    /// Adds an event.
    pub fn feed(&mut self, _event: &EventRecord, _symbols: &dyn Symbols) {
        self.events += 1;
    }

    /// A window is over, and its events were fed: from `start_ns` to `end_ns`
    /// these kinds were seen. Kinds that are always seen need no window.
    pub fn window(&mut self, start_ns: u64, end_ns: u64, kinds: Kinds) {
        self.windows.add(start_ns, end_ns, kinds);
    }

    /// Time has come this far, whether or not there were events.
    pub fn advance(&mut self, _now_ns: u64) {}

    /// Adds what was found out.
    pub fn learn(&mut self, _fact: Fact, _symbols: &dyn Symbols) {}

    /// What should be found out, most wanted first, at most `limit`. What was
    /// asked for three times is not asked for again, but for sizes.
    pub fn unknown(&mut self, _limit: usize) -> Vec<Unknown> {
        Vec::new()
    }

    /// What is concluded so far, worst first.
    pub fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Findings that were not told before, or with less confidence.
    pub fn news(&mut self) -> Vec<Finding> {
        Vec::new()
    }

    /// How many events were fed.
    pub fn events(&self) -> u64 {
        self.events
    }
}
