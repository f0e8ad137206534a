//! The one error of everything that a person writes into a flag or a plan.

/// A text that could not be read: what was given, why not, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {what}: {why}; accepted: {grammar}")]
pub struct Malformed {
    given: String,
    what: &'static str,
    why: String,
    grammar: &'static str,
}

impl Malformed {
    /// `what` carries its article ("a delay"), so that the message is a sentence.
    pub(super) fn new(
        what: &'static str,
        given: &str,
        why: impl Into<String>,
        grammar: &'static str,
    ) -> Self {
        Self {
            given: given.to_owned(),
            what,
            why: why.into(),
            grammar,
        }
    }

    /// The message without the grammar: the reason why a larger value, which
    /// has a grammar of its own, could not be read.
    pub(super) fn reason(&self) -> String {
        format!("{:?} is not {}: {}", self.given, self.what, self.why)
    }
}
