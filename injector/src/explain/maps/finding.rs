//! A conclusion with its evidence.

use super::super::Confidence;
use crate::go::Frame;

/// What was concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claim {
    /// Two goroutines were in operations of one map at once, one of them a
    /// write.
    Overlap,
    /// One goroutine wrote to a map while another iterated over it.
    WriteDuringIteration,
    /// A map that several goroutines use and at least one writes, and nothing
    /// was seen that orders them.
    Unordered,
    /// A goroutine changed a map while it iterated over it itself.
    ChangeDuringOwnIteration,
    /// A `sync.Map` was changed during `Range`.
    RangeMissed,
    /// Goroutines waited for a lock.
    Contention,
}

impl Claim {
    /// The name that output uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::WriteDuringIteration => "write_during_iteration",
            Self::Unordered => "unordered",
            Self::ChangeDuringOwnIteration => "change_during_own_iteration",
            Self::RangeMissed => "range_missed",
            Self::Contention => "contention",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// `map`, `sync.Map`, `Mutex`, `RWMutex`.
    pub what: &'static str,
    /// Its address.
    pub address: u64,
    /// Its name.
    pub name: Option<String>,
    /// Its type.
    pub type_name: Option<String>,
    /// Where it was first used.
    pub first_use: Option<Frame>,
}

/// Somebody who took part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// What it did: `writes`, `waited`, `held`.
    pub role: &'static str,
    /// A goroutine, if it was one.
    pub goroutine: Option<u64>,
    /// Function that the goroutine began with.
    pub started_as: Option<String>,
    /// Where in the program.
    pub place: Option<Frame>,
    /// The stack there, innermost first; empty when it is not known.
    pub stack: Vec<Frame>,
    /// How often, 0 when that was not counted.
    pub count: u64,
    /// How long in all, in nanoseconds; 0 when it has no length.
    pub total_ns: u64,
}

/// A number that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What it is; times end in `_ns`.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

/// What share of the time operations of a kind were seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The kind.
    pub what: &'static str,
    /// From 0 to 1.
    pub share: f64,
}

/// A conclusion.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was concluded.
    pub claim: Claim,
    /// Of what.
    pub about: About,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why not less, and why not more.
    pub why: Vec<String>,
    /// What was measured.
    pub measured: Vec<Figure>,
    /// What was concluded from that.
    pub inferred: Vec<String>,
    /// How much of the time was seen.
    pub seen: Vec<Seen>,
    /// What would help, in one line.
    pub remedy: &'static str,
    /// Who took part, most important first.
    pub parties: Vec<Party>,
    /// The larger, the worse, among findings of the same confidence.
    pub weight: u64,
}

impl Finding {
    /// A number that was measured, by its name; 0 if that was not.
    pub fn figure(&self, name: &str) -> u64 {
        let mut figures = self.measured.iter();
        let found = figures.find(|figure| figure.name == name);
        found.map_or(0, |figure| figure.value)
    }
}
