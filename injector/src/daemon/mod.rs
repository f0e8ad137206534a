//! One run: attach, watch, act, end.

pub mod command;
pub mod control;
mod ending;
mod rules;
mod run;
mod sink;

pub use ending::Ending;
pub use run::{Job, NoErrorHook, NoHook, run};
pub use sink::{Format, Verbosity};
