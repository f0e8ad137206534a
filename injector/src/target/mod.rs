//! Who: the processes that a rule selects.

pub mod process;
pub mod protection;
pub mod selector;
pub mod tracker;

pub use selector::Selector;
pub use tracker::Tracker;
