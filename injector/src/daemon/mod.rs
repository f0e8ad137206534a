//! One run: attach, watch, act, end.

mod attach;
pub mod command;
pub mod control;
mod ending;
mod fatal_file;
mod hold;
pub mod maps;
mod recording;
mod rules;
mod run;
mod screen;
mod sink;
mod tui;
pub mod watchdog;

pub use attach::{NoErrorHook, NoHook, NoSleepEngine};
pub use run::{Job, NoLifecycle, run};
pub use sink::{Format, Verbosity};
