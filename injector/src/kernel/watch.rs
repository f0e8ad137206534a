//! Hardware watchpoints on maps: one for each thread of the target, because the
//! kernel knows no other way to watch a process that runs. Threads that begin
//! later inherit those of who began them.

use std::{
    collections::BTreeSet,
    hint::black_box,
    io, ptr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::{
    maps::{MapData, RingBuf},
    programs::{
        PerfEvent, ProgramError,
        perf_event::{
            BreakpointConfig, PerfBreakpointLength, PerfBreakpointType, PerfEventConfig,
            PerfEventLink, PerfEventScope, SamplePolicy,
        },
    },
};
use injector_ebpf::go::Watch;
use thiserror::Error;

use super::{take, tracer::Tracer};
use crate::target::process::Process;

/// Looks for threads that began while others were given their watchpoints. Each
/// look finds only those of the moment before.
const LOOKS: usize = 8;
/// Hits by which the price is measured, and how often that is done: the best
/// counts, as the others were disturbed.
const HITS: u32 = 100;
const ROUNDS: usize = 5;

/// Why a map cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The processor has too few registers for it.
    #[error(
        "thread {0} has no debug register left for another watchpoint: a debugger or another \
         tracer uses some, or more than four maps are watched"
    )]
    NoRegister(u32),
    /// The kernel or the machine has none at all.
    #[error("this machine has no hardware watchpoints ({0}); a virtual one may hide them")]
    Unsupported(io::Error),
    /// Something else.
    #[error("cannot watch thread {tid}: {source}")]
    Refused {
        /// The thread.
        tid: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// The watchpoints of one map. Dropping it takes them away.
pub struct Watching {
    links: Vec<PerfEventLink>,
    /// Threads that were given one.
    pub threads: usize,
}

impl Watching {
    /// Takes them away.
    pub fn stop(&mut self) {
        self.links.clear();
    }
}

impl Tracer {
    /// The ring that hits are written to; can be taken once.
    pub fn take_watched(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "WATCHED")?)?)
    }

    /// What the trap of a hit costs on this machine, in nanoseconds, measured on
    /// a byte of our own.
    pub fn watch_price(&mut self) -> Result<u64> {
        let mut byte = 0u8;
        let address = &raw mut byte;
        let write = || {
            let start = Instant::now();
            for _ in 0..HITS {
                // SAFETY: a local variable.
                unsafe { ptr::write_volatile(black_box(address), 1) };
            }
            start.elapsed()
        };
        let unwatched = write();
        let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let _link = self.watchpoint(own, address as u64)?;
        let best = (0..ROUNDS).map(|_| write()).min();
        let best = best.unwrap_or(Duration::ZERO).saturating_sub(unwatched);
        Ok(best.as_nanos() as u64 / u64::from(HITS))
    }

    /// Watches a map in all threads of a process, as number `index` of those that
    /// are watched.
    pub fn watch(&mut self, index: u32, watch: Watch, pid: u32) -> Result<Watching> {
        let set = self.watches.set(index, watch, 0);
        set.context("cannot tell the kernel which map to watch")?;
        let mut links = Vec::new();
        let mut seen = BTreeSet::new();
        for look in 0..LOOKS {
            let threads = Process { pid }.threads();
            let new: Vec<u32> = threads
                .into_iter()
                .filter(|tid| seen.insert(*tid))
                .collect();
            if new.is_empty() {
                break;
            }
            for tid in new {
                match self.watchpoint(tid, watch.byte) {
                    Ok(link) => links.push(link),
                    // It has ended.
                    Err(WatchError::Refused { source, .. })
                        if source.raw_os_error() == Some(libc::ESRCH) => {}
                    // One that has begun since then has inherited as many as
                    // there are.
                    Err(WatchError::NoRegister(_)) if look > 0 => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Watching {
            threads: links.len(),
            links,
        })
    }

    fn watchpoint(&mut self, tid: u32, address: u64) -> Result<PerfEventLink, WatchError> {
        let place = PerfEventConfig::Breakpoint(BreakpointConfig::Data {
            r#type: PerfBreakpointType::Write,
            address,
            length: PerfBreakpointLength::Len1,
        });
        let scope = PerfEventScope::OneProcess {
            pid: tid,
            cpu: None,
        };
        let program = self.watch_program().map_err(|error| WatchError::Refused {
            tid,
            source: io::Error::other(error),
        })?;
        program
            .attach(place, scope, SamplePolicy::Period(1), true)
            .and_then(|id| program.take_link(id))
            .map_err(|error| refusal(tid, error))
    }

    /// Loaded when it is first wanted.
    fn watch_program(&mut self) -> Result<&mut PerfEvent> {
        let program = self.ebpf.program_mut("go_watch");
        let program: &mut PerfEvent = program
            .context("the kernel object has no program go_watch; this is a bug in injector")?
            .try_into()?;
        if program.fd().is_err() {
            program
                .load()
                .context("the kernel refused the program for watchpoints")?;
        }
        Ok(program)
    }
}

fn refusal(tid: u32, error: ProgramError) -> WatchError {
    let source = match error {
        ProgramError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    };
    match source.raw_os_error() {
        Some(libc::ENOSPC) => WatchError::NoRegister(tid),
        Some(libc::EOPNOTSUPP | libc::ENOENT | libc::ENODEV) => WatchError::Unsupported(source),
        _ => WatchError::Refused { tid, source },
    }
}
