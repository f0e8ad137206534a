//! What the page needs to see pass by in a recording.

use std::collections::HashMap;

use injector_ebpf::SendRecord;

use super::{heat::Heat, moments::Moments};
use crate::{
    explain::maps::Span,
    go::Frame,
    recording::replay::{Program, Watcher},
};

/// Programs of which moments are kept, 10 MB each at most.
const PROGRAMS: usize = 16;

/// Collects it.
#[derive(Debug, Default)]
pub struct Seen {
    start_ns: u64,
    heat: Heat,
    /// By process id.
    programs: HashMap<u32, Moments>,
}

impl Seen {
    /// The sends over time.
    pub(super) fn heat(&self) -> &Heat {
        &self.heat
    }

    /// What took long in this process.
    pub(super) fn moments(&self, tgid: u32) -> Option<&Moments> {
        self.programs.get(&tgid)
    }

    fn of(&mut self, tgid: u32) -> Option<&mut Moments> {
        if self.programs.len() >= PROGRAMS && !self.programs.contains_key(&tgid) {
            return None;
        }
        Some(self.programs.entry(tgid).or_default())
    }
}

impl Watcher for Seen {
    fn begun(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    fn send(&mut self, send: &SendRecord, stack: &[Frame]) {
        self.heat.send(send, self.start_ns);
        if send.goroutine != 0
            && let Some(moments) = self.of(send.tgid)
        {
            moments.send(send, stack);
        }
    }

    fn wants_spans(&self) -> bool {
        true
    }

    fn span(&mut self, program: &Program, span: &Span) {
        let start_ns = self.start_ns;
        if let Some(moments) = self.of(program.tgid) {
            moments.span(span, start_ns);
        }
    }
}
