//! How sure a conclusion is.

/// How sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// It may well be otherwise: the best guess.
    Low,
    /// It is more likely than not: something speaks for it, and something else
    /// could be true.
    Medium,
    /// It was seen, or nothing else is likely.
    High,
}

impl Confidence {
    /// The name that output uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}
