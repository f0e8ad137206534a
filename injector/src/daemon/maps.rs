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
    run::{closed, until},
};
use crate::{
    explain::fatal::Fatal,
    go::{GoError, Loaded, Program, Tracing},
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
    /// Output.
    pub format: Format,
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
        let tracing = Tracing::of(&job.program, pid, TARGET)?;
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
            format,
            summary,
            pid,
            ..
        } = self;
        let minor = loaded.program().version.as_ref().map(|it| it.minor);
        let mut reported = 0;
        while fatals.get_mut().drain(BATCH, |record| {
            let report = Report::new(&Fatal::new(record, minor), loaded);
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
