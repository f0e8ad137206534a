//! What conclusions about one target ask for beside its events: functions and
//! lines of stacks, and what the program's file and memory say of addresses.

use std::{cell::Cell, sync::Arc};

use super::tracer::Traced;
use crate::{
    explain::maps::{Symbols, Trace},
    go::{Callers, Frame, Inspector, Loaded},
};

/// Questions that are answered at once: each takes some microseconds.
const QUESTIONS: usize = 64;

/// Knows one target.
pub struct Known {
    loaded: Arc<Loaded>,
    callers: Callers,
    inspector: Inspector,
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
            stacks: Cell::new(0),
            wrong: Cell::new(0),
        }
    }

    /// Finds out what a trace wants to know most.
    pub fn look(&mut self, trace: &mut Trace) {
        // Nothing is asked for more than a few times, so not too early.
        if !self.inspector.is_ready() {
            return;
        }
        let questions = trace.unknown(QUESTIONS);
        for fact in self.inspector.answer(&questions) {
            trace.learn(fact, self);
        }
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
