//! What conclusions about one target ask for beside its events: functions and
//! lines of stacks, and what the program's file and memory say of addresses.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use super::tracer::Traced;
use crate::{
    explain::maps::{Fact, Symbols, Trace},
    go::{Callers, Frame, Inspector, Loaded},
};

/// Questions that are answered at once: each takes some microseconds.
const QUESTIONS: usize = 64;
/// How often questions are answered: variables are not followed much more often,
/// and what cannot be answered is asked a few times only.
const PERIOD: Duration = Duration::from_millis(500);

/// Knows one target.
pub struct Known {
    loaded: Arc<Loaded>,
    callers: Callers,
    inspector: Inspector,
    next: Instant,
    stacks: Cell<u64>,
    wrong: Cell<u64>,
}

impl Known {
    /// Begins to read what takes longer, aside.
    pub fn new(target: &Traced, callers: Callers) -> Self {
        Self {
            loaded: Arc::clone(&target.loaded),
            callers,
            inspector: Inspector::new(Arc::clone(&target.loaded), target.pid),
            next: Instant::now(),
            stacks: Cell::new(0),
            wrong: Cell::new(0),
        }
    }

    /// Finds out what a trace wants to know most, if it is time.
    pub fn look(&mut self, trace: &mut Trace) -> Vec<Fact> {
        if Instant::now() < self.next || !self.inspector.is_ready() {
            return Vec::new();
        }
        self.next = Instant::now() + PERIOD;
        self.look_now(trace)
    }

    /// The same at once, before all is told.
    pub fn look_now(&mut self, trace: &mut Trace) -> Vec<Fact> {
        let questions = trace.unknown(QUESTIONS);
        self.inspector.answer(&questions)
    }

    /// Functions and lines of a stack that is no event's.
    pub fn look_up(&self, stack: &[u64]) -> Vec<Frame> {
        self.loaded.frames(stack)
    }

    /// Why variables and fields have no names, if so.
    pub fn lacks_names(&self) -> Option<&'static str> {
        self.inspector.lacks_names()
    }

    /// Different stacks that were looked up, and those of them that cannot be
    /// right.
    pub fn stacks(&self) -> (u64, u64) {
        (self.stacks.get(), self.wrong.get())
    }
}

impl Symbols for Known {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        let wrong = self.loaded.wrong(stack) > 0;
        self.stacks.set(self.stacks.get() + 1);
        self.wrong.set(self.wrong.get() + u64::from(wrong));
        self.loaded.frames(stack)
    }

    fn shows(&self, function: &str) -> bool {
        self.callers.shows([function])
    }
}
