//! A run of `injector maps`: attach, wait for fatal errors, end.

use std::{
    io::{self, Write as _, stdout},
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use injector_ebpf::go::{Event, FatalRecord};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
};

use super::{
    Format,
    ending::Ending,
    fatal_file,
    hold::Hold,
    run::{closed, until},
};
use crate::{
    go::{self, GoError, Loaded, Program, Tracing},
    kernel::{
        host::Host,
        tracer::{Attached, Tracer},
    },
    output::{
        fatal::{self, Report},
        maps::{self, Summary},
    },
    stream::Events,
};

/// There is one target, so it is the first in the kernel's table.
const TARGET: u16 = 0;
/// Fatal errors that are read before something else gets its turn.
const BATCH: usize = 16;

/// What to do.
pub struct Job {
    /// The process.
    pub pid: u32,
    /// Its program.
    pub program: Program,
    /// This host.
    pub host: Host,
    /// When to end.
    pub duration: Option<Duration>,
    /// Where files for fatal errors go.
    pub fatal_dir: Option<PathBuf>,
    /// How long the process is stopped at its fatal error.
    pub hold_on_fatal: Option<Duration>,
    /// Kinds of operations that are probed; all if empty.
    pub only: Vec<Kind>,
    /// Output.
    pub format: Format,
}

/// Kinds of operations on maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Writes, deletes, clears.
    Write,
    /// Reads.
    Read,
    /// Steps of iterations.
    Iterate,
}

impl Kind {
    fn of(event: Event) -> Option<Self> {
        match go::group(event) {
            "write" => Some(Self::Write),
            "read" => Some(Self::Read),
            "iterate" => Some(Self::Iterate),
            _ => None,
        }
    }
}

/// Runs the job to its end.
pub async fn run(job: Job) -> Result<Ending> {
    let mut run = Run::start(job)?;
    let ending = run.events().await;
    run.finish(ending)
}

struct Run {
    pid: u32,
    loaded: Loaded,
    tracing: Tracing,
    tracer: Tracer,
    attached: Option<Attached>,
    fatals: AsyncFd<Events<FatalRecord>>,
    process: AsyncFd<OwnedFd>,
    fatal_dir: Option<PathBuf>,
    hold: Option<Hold>,
    format: Format,
    summary: Summary,
    start: Instant,
    deadline: Option<Instant>,
}

impl Run {
    fn start(job: Job) -> Result<Self> {
        let pid = job.pid;
        let process = Pid::from_raw(pid as i32)
            .and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok())
            .ok_or(GoError::NoProcess(pid))?;
        let mut tracing = Tracing::of(&job.program, pid, TARGET)?;
        tracing.map_ops.retain(|it| {
            let kind = Kind::of(it.probe.event);
            job.only.is_empty() || kind.is_none_or(|kind| job.only.contains(&kind))
        });
        let loaded = Loaded::new(job.program, pid)?;
        if let Some(directory) = &job.fatal_dir {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let mut tracer = Tracer::load(&job.host)?;
        let ring = Events::new(tracer.take_fatals()?);
        // SAFETY: the ring and the pidfd own their descriptors, return the same
        // ones each time, and are never taken out of the `AsyncFd`.
        let (fatals, process) = unsafe {
            (
                AsyncFd::register_with_interest(ring, Interest::READABLE)?,
                AsyncFd::register_with_interest(process, Interest::READABLE)?,
            )
        };
        // Before there is anything that could stop it.
        let hold = job.hold_on_fatal.map(|time| {
            let maps = tracer.take_hold()?;
            Hold::start(pid, TARGET, time, maps)
        });
        let hold = hold.transpose()?;
        let attached = tracer.attach(loaded.program(), TARGET, &tracing)?;
        let program = loaded.program();
        let version = program.version.as_ref().map(ToString::to_string);
        let summary = Summary::new(pid, program.image().name.clone(), version);
        let start = Instant::now();
        eprintln!(
            "injector: attached: {} probes on map operations, {} on fatal errors of process {pid}; \
             every operation is traced, whatever it costs",
            tracing.map_ops.len(),
            tracing.fatals.len()
        );
        for (function, why) in &tracing.left_out {
            eprintln!("injector: {function} is not probed: {why}");
        }
        Ok(Self {
            pid,
            loaded,
            tracing,
            tracer,
            attached: Some(attached),
            fatals,
            process,
            fatal_dir: job.fatal_dir,
            hold,
            format: job.format,
            summary,
            start,
            deadline: job.duration.map(|duration| start + duration),
        })
    }

    async fn events(&mut self) -> Result<Ending> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            let ending = tokio::select! {
                biased;
                _ = interrupt.recv() => Ending::Signal("SIGINT"),
                _ = terminate.recv() => Ending::Signal("SIGTERM"),
                _ = hangup.recv() => Ending::Signal("SIGHUP"),
                ready = self.fatals.readable() => {
                    ready?.clear_ready();
                    match self.report() {
                        Ok(_) => continue,
                        Err(error) => failed(error)?,
                    }
                }
                // Readable for good once it has ended.
                ready = self.process.readable() => {
                    ready?.retain_ready();
                    Ending::TargetsGone
                }
                news = held(&mut self.hold) => {
                    eprintln!("injector: {}", news?);
                    continue;
                }
                () = until(self.deadline) => Ending::Duration,
            };
            return Ok(ending);
        }
    }

    /// Reads the ring of fatal errors; how many there were.
    fn report(&mut self) -> Result<usize> {
        let Self {
            fatals,
            loaded,
            fatal_dir,
            hold,
            format,
            summary,
            pid,
            ..
        } = self;
        let mut reported = 0;
        while fatals.get_mut().drain(BATCH, |record| {
            let explained = fatal::explain(record, loaded);
            let mut report = Report::new(&explained, loaded);
            match (explained.held, &mut *hold) {
                (Some(true), Some(hold)) => {
                    let threads = hold.begun(record.time_ns);
                    report.held(hold.time_ns(), &threads, &|stack| loaded.frames(stack));
                }
                (Some(false), _) => {
                    eprintln!("injector: the kernel did not stop process {pid}, so it is not held")
                }
                _ => {}
            }
            summary.fatals += 1;
            reported += 1;
            // The file first: a closed output must not lose it.
            if let Some(directory) = fatal_dir {
                let suffix = match format {
                    Format::Table => "txt",
                    Format::Json => "json",
                };
                let name = format!("fatal-{pid}-{}.{suffix}", summary.fatals);
                let path = fatal_file::write(directory, &name, |out| write(out, *format, &report))?;
                eprintln!("injector: wrote {}", path.display());
            }
            let mut out = stdout().lock();
            write(&mut out, *format, &report)?;
            Ok(out.flush()?)
        })? > 0
        {}
        Ok(reported)
    }

    /// Takes the probes away, reads what is left, and sums up.
    fn finish(mut self, ending: Result<Ending>) -> Result<Ending> {
        let elapsed = self.start.elapsed();
        drop(self.attached.take());
        let ending = ending?;
        if ending == Ending::OutputClosed {
            return Ok(ending);
        }
        if let Err(error) = self.report() {
            return failed(error);
        }
        self.summary.ended(elapsed, ending.to_string());
        let probes = self.tracing.map_ops.iter().map(|it| (it, true));
        let fatals = self.tracing.fatals.iter().map(|it| (it, false));
        for (attachment, is_op) in probes.chain(fatals) {
            let cookie = attachment.cookie;
            let used = self.tracer.site(cookie.site)?;
            let operation = Event::from_number(cookie.kind).filter(|_| is_op);
            self.summary.add(attachment.probe.function, operation, used);
        }
        for (function, why) in &self.tracing.left_out {
            self.summary.leave_out(function, why);
        }
        self.summary.lose(&self.tracer.counters()?);
        let mut out = stdout().lock();
        let written = match self.format {
            Format::Table => maps::text(&mut out, &self.summary),
            Format::Json => maps::json(&mut out, &self.summary),
        };
        match written.and_then(|()| out.flush()) {
            Err(error) => closed(error),
            Ok(()) => Ok(ending),
        }
    }
}

/// What there is to tell of a process that is, or will be, held; for ever
/// nothing without.
async fn held(hold: &mut Option<Hold>) -> Result<&'static str> {
    match hold {
        Some(hold) => hold.news().await,
        None => std::future::pending().await,
    }
}

fn write(out: &mut dyn io::Write, format: Format, report: &Report) -> io::Result<()> {
    match format {
        Format::Table => fatal::text(out, report),
        Format::Json => fatal::json(out, report),
    }
}

/// A reader that went away is a normal end.
fn failed(error: anyhow::Error) -> Result<Ending> {
    match error.downcast::<io::Error>() {
        Ok(error) => closed(error),
        Err(error) => Err(error),
    }
}
