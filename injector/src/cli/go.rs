//! `injector doctor --pid`: what a Go program is, and where it can be probed.

use std::io::{Write as _, stdout};

use anyhow::Result;

use super::doctor::UNSUPPORTED;
use crate::{
    daemon::Format,
    go::Program,
    output::go::{self, Report},
};

/// Prints it; 0 when the program can be traced.
pub fn run(pid: u32, format: Format) -> Result<u8> {
    let program = Program::of_process(pid)?;
    let report = Report::new(pid, &program);
    let mut out = stdout().lock();
    match format {
        Format::Table => go::table(&mut out, &report)?,
        Format::Json => go::json(&mut out, &report)?,
    }
    out.flush()?;
    Ok(if program.is_traceable() {
        0
    } else {
        UNSUPPORTED
    })
}
