//! How what is known is told: one file per sink. A sink writes to any
//! [`std::io::Write`], never flushes, and hands errors back unchanged, so that
//! the caller can tell a closed pipe from a full disk.

mod bars;
pub mod budget;
pub mod doctor;
mod errno;
pub mod fatal;
pub mod go;
pub mod json;
pub mod line;
pub mod maps;
pub mod maps_finding;
pub mod maps_report;
pub mod maps_table;
pub mod recorded;
pub mod status;
pub mod summary;
mod text;
pub mod tui;
pub mod units;
pub mod watch;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod maps_fixture;

use std::{
    io::{self, Write},
    time::Duration,
};

use injector_ebpf::Mode;
use serde::Serialize;

/// What the caller knows of a run and records do not tell.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Which processes were selected, in the user's words.
    pub targets: String,
    /// Each rule, in the user's words.
    pub rules: Vec<String>,
    /// Whether decisions were carried out.
    pub mode: Mode,
    /// With which the same calls get the same decisions again.
    pub seed: u64,
    /// Where sends were seen.
    pub hook: String,
    /// How threads were made to wait.
    pub engine: String,
    /// Why the run ended.
    pub ended: String,
    /// Monotonic time of the start.
    pub start_ns: u64,
    /// How long the run took.
    pub elapsed: Duration,
    /// Sends that had not returned when the hooks were taken away.
    pub in_flight: u64,
    /// Times that the kernel left out a program of ours.
    pub skipped: u64,
    /// CPU time that injector itself used, without what its hooks burnt.
    pub own_cpu: Option<Duration>,
}

/// The name of a mode.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Shadow => "shadow",
        Mode::Enforce => "enforce",
    }
}

/// Writes one JSON object in a line.
fn json_line(out: &mut dyn Write, object: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

/// In nanoseconds, or the most that fit.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
