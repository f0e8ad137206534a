//! What took time, one by one, for time lines and profiles: everything else here
//! sums up.

use super::{About, Trace, blame::Parts, symbols::StackId};
use crate::go::Frame;

/// Spans that are kept between two [`Trace::take_spans`]:
/// 10 MB, and for each wait 24 bytes for every goroutine that had the lock and 32
/// for every send.
const SPANS: usize = 65_536;

/// A send that somebody waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The goroutine that sent: it had the lock, or one that it waited for itself.
    pub goroutine: u64,
    /// When that send was begun: with the goroutine, which one it was.
    pub send_start_ns: u64,
    /// How much of the wait was in its injected delay, in nanoseconds.
    pub injected_ns: u64,
    /// How much was in the send itself, in nanoseconds.
    pub sending_ns: u64,
}

/// A goroutine that had the lock while another waited for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Which one.
    pub goroutine: u64,
    /// When it released it; it had it since the one before did.
    pub until_ns: u64,
    /// Where it released.
    pub stack: StackId,
}

/// A goroutine waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// Which one.
    pub goroutine: u64,
    /// Address of the lock that it waited for; 0 if it was none.
    pub lock: u64,
    /// What it waited for: `Mutex`, `RWMutex to write`, `WaitGroup`, …
    pub what: &'static str,
    /// When it began.
    pub start_ns: u64,
    /// When it was over.
    pub end_ns: u64,
    /// It was over when this was told; otherwise `end_ns` is when the trace ended.
    pub over: bool,
    /// What it was for; all of it is unexplained if no sends were told.
    pub parts: Parts,
    /// Who released the lock meanwhile, in order; the latest if they were very many.
    pub holders: Box<[Holder]>,
    /// Sends that it was for.
    pub causes: Box<[Cause]>,
    /// Where it asked.
    pub stack: StackId,
}

/// A goroutine had a lock, which is only seen if somebody waits for it, or if it
/// is the writer's lock of an `RWMutex`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Which one.
    pub goroutine: u64,
    /// Address of the lock.
    pub lock: u64,
    /// When it got it, if that was seen; else since when others waited for it.
    pub start_ns: u64,
    /// When it released it.
    pub end_ns: u64,
    /// It was seen from when it got the lock.
    pub whole: bool,
    /// Where it released.
    pub stack: StackId,
}

/// A goroutine went through a map. Of a `sync.Map`, this is `Range`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Iteration {
    /// Which one.
    pub goroutine: u64,
    /// Address of the map.
    pub map: u64,
    /// It is a `sync.Map`.
    pub sync: bool,
    /// When it began.
    pub start_ns: u64,
    /// The last step that was seen; of a `sync.Map`, the end.
    pub end_ns: u64,
    /// Steps that were seen; a `sync.Map`'s are not.
    pub steps: u64,
    /// Changes of the map in its midst.
    pub changes: u64,
    /// Where it began.
    pub stack: StackId,
}

/// A map began to grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// The goroutine whose write made it grow.
    pub goroutine: u64,
    /// Address of the map.
    pub map: u64,
    /// When.
    pub time_ns: u64,
    /// Where.
    pub stack: StackId,
}

/// Something that took time. Times are of `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// A goroutine waited.
    Wait(Wait),
    /// A goroutine had a lock.
    Hold(Hold),
    /// A goroutine went through a map.
    Iteration(Iteration),
    /// A map began to grow.
    Growth(Growth),
    /// Garbage was collected, from the start to the last phase.
    Collection {
        /// When it began.
        start_ns: u64,
        /// When it was over.
        end_ns: u64,
    },
    /// No goroutine ran.
    Pause {
        /// When it began.
        start_ns: u64,
        /// When it was over.
        end_ns: u64,
    },
}

/// Those that were not taken yet, if anybody wants them.
#[derive(Debug, Default)]
pub struct Spans {
    wanted: bool,
    all: Vec<Span>,
    /// How many had no room.
    pub lost: u64,
}

impl Spans {
    /// Somebody wants them.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether somebody wants them: without, nothing need be made.
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// One more.
    pub fn push(&mut self, span: Span) {
        if !self.wanted {
            return;
        }
        if self.all.len() < SPANS {
            self.all.push(span);
        } else {
            self.lost += 1;
        }
    }

    /// All of them.
    pub fn take(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.all)
    }
}

impl Trace {
    /// What takes time is wanted one by one from now on.
    pub fn keep_spans(&mut self) {
        self.spans.want();
    }

    /// What was over since this was last called, in the order in which that came
    /// out: a wait is told with the next that its goroutine does. To be called
    /// often enough that none have to be given up.
    pub fn take_spans(&mut self) -> Vec<Span> {
        self.spans.take()
    }

    /// Nothing is fed any more: what lasts is over, as far as it is told, before
    /// spans are taken for the last time.
    pub fn end_spans(&mut self) {
        self.advance(self.latest_ns);
        for (id, who) in self.goroutines.iter() {
            if let Some(wait) = who.wait.as_ref() {
                let lasting = self.locks.lasting(id, wait, self.latest_ns);
                self.spans.push(Span::Wait(lasting));
            }
        }
        self.maps.gap(&mut self.spans);
    }

    /// Spans that were given up because they were not taken in time.
    pub fn lost_spans(&self) -> u64 {
        self.spans.lost
    }

    /// The functions and lines of a span's stack, innermost first; none if they are not known.
    pub fn frames(&self, stack: StackId) -> &[Frame] {
        &self.stacks.get(stack).frames
    }

    /// The innermost place of a span's stack that is the program's own, if it is known.
    pub fn place(&self, stack: StackId) -> Option<&Frame> {
        self.stacks.place(self.stacks.get(stack).site)
    }

    /// What is known of the lock at an address, if it still is.
    pub fn lock_at(&self, address: u64) -> Option<About> {
        Some(self.about_lock(address, self.locks.get(address)?))
    }

    /// What is known of the map at an address, or of the `sync.Map`, if it still is.
    pub fn map_at(&self, address: u64) -> Option<About> {
        if let Some(map) = self.sync_maps.get(address) {
            return Some(self.about_sync_map(address, map));
        }
        Some(self.about_map(address, self.maps.get(address)?))
    }
}
