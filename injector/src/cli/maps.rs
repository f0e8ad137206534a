//! `injector maps`: from flags to a job.

use anyhow::{Context as _, Result};

use super::args::{Maps, Tracing};
use crate::{
    daemon::{
        Format,
        maps::{self, Job},
    },
    go::{Callers, Program},
    kernel::{host::Host, uprobes},
};

/// Runs it to its end.
pub fn run(flags: Maps) -> Result<u8> {
    let mut job = job(flags.pid, flags.tracing, flags.output, flags.tui)?;
    job.duration = flags.duration;
    job.record = flags.record;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let ending = runtime.block_on(maps::run(job))?;
    Ok(ending.exit_code())
}

/// To trace the maps of a process until something ends it.
pub fn job(pid: u32, flags: Tracing, format: Format, tui: bool) -> Result<Job> {
    let host = Host::read();
    // A kernel that is too old for this is the better reason.
    uprobes::check(&host.release, host.version)?;
    host.check()?;
    let program = Program::of_process(pid)?;
    Ok(Job {
        pid,
        host,
        duration: None,
        record: None,
        callers: Callers::new(program.build(), flags.include, flags.exclude),
        budget: flags.budget,
        program,
        fatal_dir: flags.fatal_dir,
        hold_on_fatal: flags.hold_on_fatal,
        only: flags.only,
        watch_maps: flags.watch_map,
        format,
        tui,
    })
}
