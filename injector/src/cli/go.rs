//! `injector doctor --pid`: what a Go program is, and where it can be probed.

use std::io::{Write as _, stdout};

use anyhow::Result;

use super::doctor::UNSUPPORTED;
use crate::{
    daemon::Format,
    go::Program,
    kernel::{host::Host, tracer::Tracer},
    output::go::{self, Report, Trap},
};

/// What a hit costs here; nothing where there can be no probes, or only for root.
fn trap() -> Option<Trap> {
    let traps = Tracer::load(&Host::read()).and_then(|tracer| tracer.measure_traps());
    traps.ok().map(|traps| Trap {
        emulated_ns: traps.emulated_ns,
        single_stepped_ns: traps.single_stepped_ns,
    })
}

/// Prints it; 0 when the program can be traced.
pub fn run(pid: u32, format: Format) -> Result<u8> {
    let program = Program::of_process(pid)?;
    let mut report = Report::new(pid, &program);
    report.trap = trap();
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
