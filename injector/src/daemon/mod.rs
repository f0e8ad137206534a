//! One run: attach, watch, act, end.

pub mod command;
pub mod control;
mod ending;
mod rules;
mod run;
mod sink;

pub use run::{Job, NoErrorHook, NoHook, NoLifecycle, run};
pub use sink::{Format, Verbosity};
