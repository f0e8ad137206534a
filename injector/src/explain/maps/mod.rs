//! What the events of a Go program tell of its maps and locks.

mod fact;

pub use fact::{Fact, Unknown};
