//! How what is known is told: one file per sink. A sink writes to any
//! [`std::io::Write`], never flushes, and hands errors back unchanged, so that
//! the caller can tell a closed pipe from a full disk.

mod bars;
pub mod budget;
pub mod doctor;
mod errno;
pub mod fatal;
pub mod findings;
pub mod folded;
pub mod go;
pub mod html;
pub mod json;
pub mod line;
pub mod maps;
pub mod maps_finding;
pub mod maps_report;
pub mod maps_table;
pub mod perfetto;
pub mod pprof;
pub mod profile;
pub mod status;
pub mod summary;
mod text;
pub mod tui;
pub mod units;
pub mod watch;

#[cfg(test)]
mod documented;
#[cfg(test)]
pub mod fixture;
#[cfg(test)]
mod maps_fixture;

use std::io::{self, Write};

use injector_ebpf::Mode;
use serde::Serialize;

use crate::clock::nanoseconds;
pub use text::Clean;

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
