//! A run of `injector maps`: attach, tell what happens, end.

mod feed;
mod governor;
mod known;
mod tell;
mod tracer;
mod units;
mod watch;

use std::{
    io::{self, Write as _, stdout},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use injector_ebpf::{
    Mode, SendRecord, SendStack,
    go::{Event, Layout},
};
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
    recording::Recording,
    run::{closed, own_cpu, ticks, until},
    tui::{self, Tui},
};
use crate::{
    clock,
    clock::nanoseconds,
    explain::{
        RunInfo, Totals,
        maps::{LockLayout, Symbols as _, Trace},
    },
    go::{self, Callers, GoError, MapKind, Program},
    kernel::host::Host,
    output::{
        self,
        budget::{Seen, Spent},
        fatal::{self, Report},
        findings,
        maps::{self, Summary},
        tui::{Action, Model, Program as Shown},
    },
    plan::CpuShare,
    recording::{
        schema::{Content, Program as RecordedProgram, Told},
        write::Recorder,
    },
};
use feed::Feed;
use known::Known;
use tell::Teller;
use tracer::{MapTracer, News, Ready, Spending, Traced};
use watch::Watches;

/// How often the UI shows what is new.
const SHOWN: Duration = Duration::from_secs(1);
/// How often what was recorded is put into the file.
const FLUSH: Duration = Duration::from_secs(1);

/// There is one target, so it is the first in the kernel's table.
const TARGET: u16 = 0;

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
    /// What probes may cost.
    pub budget: CpuShare,
    /// Where files for fatal errors go.
    pub fatal_dir: Option<PathBuf>,
    /// How long the process is stopped at its fatal error.
    pub hold_on_fatal: Option<Duration>,
    /// Kinds of operations that are probed; all if empty.
    pub only: Vec<Kind>,
    /// Whose work is shown.
    pub callers: Callers,
    /// Maps that hardware watches: addresses, variables, types.
    pub watch_maps: Vec<String>,
    /// Where the run is recorded.
    pub record: Option<PathBuf>,
    /// Output.
    pub format: Format,
    /// Whether the terminal UI has the terminal: nothing is written until the end.
    pub tui: bool,
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
    let process = Pid::from_raw(job.pid as i32)
        .and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok())
        .ok_or(GoError::NoProcess(job.pid))?;
    // SAFETY: it owns its descriptor, returns the same one each time, and is
    // never taken out of the `AsyncFd`.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE)? };
    let duration = job.duration;
    let model = job.tui.then(|| Model {
        targets: format!("process {} {}", job.pid, job.program.image().name),
        duration,
        ..Model::default()
    });
    // Before anything is attached: the file may be there already.
    let mut recording = job.record.as_deref().map(Recording::create).transpose()?;
    let mut observed = Observed::start(job)?;
    let info = observed.info();
    if let Some(recording) = &mut recording {
        recording.begin(&info, observed.start, observed.programs())?;
    }
    let deadline = duration.map(|duration| observed.start + duration);
    let mut tui = model.map(Tui::start).transpose()?;
    let ending = events(
        &mut observed,
        recording.as_mut(),
        &process,
        deadline,
        &mut tui,
    );
    let ending = ending.await;
    // What follows is for the terminal as it was.
    drop(tui);
    let ending = ending?;
    let elapsed = observed.start.elapsed();
    observed.end(&ending, recording.as_mut().map(|it| &mut it.recorder))?;
    let path = recording.as_ref().map(|it| it.path().to_owned());
    if let Some(recording) = recording {
        let info = RunInfo {
            ended: ending.to_string(),
            elapsed,
            ..info
        };
        eprintln!("injector: {}", recording.end(&info, &Totals::default())?);
    }
    if ending == Ending::OutputClosed {
        return Ok(ending);
    }
    match observed.tell(path.as_deref()) {
        Ok(()) => Ok(ending),
        Err(error) => closed(error),
    }
}

async fn events(
    observed: &mut Observed,
    mut recording: Option<&mut Recording>,
    process: &AsyncFd<OwnedFd>,
    deadline: Option<Instant>,
    tui: &mut Option<Tui>,
) -> Result<Ending> {
    let mut flush = ticks(FLUSH);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut shown = ticks(SHOWN);
    loop {
        let ending = tokio::select! {
            biased;
            _ = interrupt.recv() => Ending::Signal("SIGINT"),
            _ = terminate.recv() => Ending::Signal("SIGTERM"),
            _ = hangup.recv() => Ending::Signal("SIGHUP"),
            _ = flush.tick(), if recording.is_some() => {
                if let Some(recording) = &mut recording {
                    recording.flush()?;
                }
                continue;
            }
            turn = observed.ready() => {
                let recorder = recording.as_mut().map(|it| &mut it.recorder);
                match observed.turn(turn?, recorder) {
                    Ok(()) => continue,
                    Err(error) => failed(error)?,
                }
            }
            // Readable for good once it has ended.
            ready = process.readable() => {
                ready?.retain_ready();
                Ending::TargetsGone
            }
            () = until(deadline) => Ending::Duration,
            action = tui::action(tui) => match (action, &mut *tui) {
                (Ok(Action::Stop), _) => Ending::Key,
                (Ok(_), Some(tui)) => match tui.answer("nothing is done to sends here".to_owned()) {
                    Ok(()) => continue,
                    Err(error) => closed(error)?,
                },
                (Ok(_), None) => continue,
                (Err(error), _) => closed(error)?,
            },
            _ = shown.tick() => match tui.as_mut().map_or(Ok(()), |tui| observed.show(tui)) {
                Ok(()) => continue,
                Err(error) => closed(error)?,
            },
        };
        return Ok(ending);
    }
}

/// What there is to do for a program that is observed.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// It ended itself.
    Fatals,
    /// Events, perhaps.
    Events,
    /// Hits of watched maps.
    Watches,
    /// Something to tell of its being held.
    Hold(&'static str),
}

/// A Go program whose maps are traced: what is attached to it, and what is known
/// and concluded of it.
pub struct Observed {
    tracer: MapTracer,
    /// What is concluded of each target.
    traces: Vec<Trace>,
    /// What is known of each.
    known: Vec<Known>,
    teller: Teller,
    fatal_dir: Option<PathBuf>,
    hold: Option<Hold>,
    watches: Option<Watches>,
    /// What came of them.
    watched: Vec<output::watch::Report>,
    format: Format,
    /// Fatal errors that the UI leaves no room for.
    kept: Option<Vec<u8>>,
    summary: Summary,
    start: Instant,
}

impl Observed {
    /// Puts the probes into it, or nothing.
    pub fn start(job: Job) -> Result<Self> {
        let pid = job.pid;
        if let Some(directory) = &job.fatal_dir {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let version = job.program.version.as_ref().map(ToString::to_string);
        let summary = Summary::new(pid, job.program.image().name.clone(), version);
        let wanted = |event| {
            let kind = Kind::of(event);
            job.only.is_empty() || kind.is_none_or(|kind| job.only.contains(&kind))
        };
        let programs = vec![(pid, job.program)];
        let mut tracer = MapTracer::load(&job.host, programs, job.budget.cpus(), wanted)?;
        // Before there is anything that could stop it.
        let hold = job.hold_on_fatal.map(|time| {
            let maps = tracer.take_hold()?;
            Hold::start(pid, TARGET, time, maps)
        });
        let hold = hold.transpose()?;
        tracer.attach()?;
        let watches = match &job.watch_maps[..] {
            [] => None,
            maps => Some(Watches::start(maps, &mut tracer)?),
        };
        for target in tracer.targets() {
            announce(target);
        }
        let known = |target| Known::new(target, job.callers.clone());
        Ok(Self {
            traces: traces(&tracer),
            known: tracer.targets().iter().map(known).collect(),
            teller: Teller::new(job.format, vec![pid], job.tui),
            tracer,
            fatal_dir: job.fatal_dir,
            hold,
            watches,
            watched: Vec::new(),
            format: job.format,
            kept: job.tui.then(Vec::new),
            summary,
            start: Instant::now(),
        })
    }

    /// Where the runtime of the program keeps what.
    pub fn layout(&self) -> Layout {
        self.tracer.targets()[usize::from(TARGET)].tracing.layout
    }

    /// Its sends are told from now on, each before the next [`Self::turn`].
    pub fn expect_sends(&mut self) {
        self.traces[usize::from(TARGET)].expect_sends();
        if let Err(error) = self.tracer.see_waits_for_cpus() {
            eprintln!("injector: not seen: when goroutines have no CPU ({error:#})");
        }
    }

    /// What is concluded of it.
    pub fn trace(&self) -> &Trace {
        &self.traces[usize::from(TARGET)]
    }

    /// What tracing has cost so far.
    pub fn spent(&self) -> Spent {
        spent(self.tracer.spending())
    }

    /// Shows what is known in the UI.
    fn show(&self, tui: &mut Tui) -> io::Result<()> {
        let elapsed = self.start.elapsed();
        tui.model.elapsed = elapsed;
        tui.model.program = Some(Shown::of(self.trace()));
        tui.model.cost = tui::own_cost(own_cpu(), elapsed, &Totals::default());
        tui.model.cost.extend(tui::probe_cost(&self.spent()));
        tui.draw()
    }

    /// It has sent.
    pub fn send(&mut self, record: &SendRecord) {
        if record.tgid == self.layout().tgid {
            self.traces[usize::from(TARGET)].send(record);
        }
    }

    /// Waits until there is something to do.
    pub async fn ready(&mut self) -> Result<Turn> {
        tokio::select! {
            biased;
            ready = self.tracer.ready() => Ok(match ready? {
                Ready::Fatals => Turn::Fatals,
                Ready::Events => Turn::Events,
            }),
            news = held(&mut self.hold) => news.map(Turn::Hold),
            ready = watched(&mut self.watches) => {
                ready?;
                Ok(Turn::Watches)
            }
        }
    }

    /// Does it, and records what it hears of.
    pub fn turn(&mut self, turn: Turn, recorder: Option<&mut Recorder>) -> Result<()> {
        match turn {
            Turn::Fatals => self.report(recorder),
            Turn::Events => self.hear(recorder),
            Turn::Watches => self.read_watches(),
            Turn::Hold(news) => {
                eprintln!("injector: {news}");
                Ok(())
            }
        }
    }

    /// Takes in what has happened, and finds out what that does not say.
    fn hear(&mut self, recorder: Option<&mut Recorder>) -> Result<()> {
        let Self {
            traces,
            known,
            tracer,
            teller,
            watches,
            ..
        } = self;
        let mut feed = Feed::new(recorder);
        tracer.events(|index, target, news| {
            if let (Some(watches), News::Event(event)) = (watches.as_mut(), &news)
                && Event::from_number(event.kind).is_some_and(Event::is_map_op)
            {
                watches.see(event, &target.loaded);
            }
            feed.news(index, &mut traces[index], &known[index], &news);
        })?;
        for (index, (known, trace)) in known.iter_mut().zip(&mut *traces).enumerate() {
            let facts = known.look(trace);
            feed.learn(index, trace, known, facts);
        }
        if teller.is_due() {
            feed.advance(traces, clock::monotonic_ns());
            teller.tell(traces)?;
        }
        if let Some(watches) = watches {
            watches.choose(tracer)?;
        }
        self.read_watches()
    }

    fn read_watches(&mut self) -> Result<()> {
        match &mut self.watches {
            Some(watches) => watches.read(&self.tracer.targets()[0].loaded),
            None => Ok(()),
        }
    }

    /// Tells of fatal errors.
    fn report(&mut self, mut recorder: Option<&mut Recorder>) -> Result<()> {
        let Self {
            tracer,
            teller,
            fatal_dir,
            hold,
            format,
            kept,
            summary,
            ..
        } = self;
        tracer.fatals(|target, record| {
            let loaded = &target.loaded;
            let explained = fatal::explain(record, loaded);
            let mut report = Report::new(&explained, loaded);
            match (explained.held, &mut *hold) {
                (Some(true), Some(hold)) => {
                    let threads = hold.begun(record.time_ns);
                    report.held(hold.time_ns(), &threads, &|stack| loaded.frames(stack));
                }
                (Some(false), _) => eprintln!(
                    "injector: the kernel did not stop process {}, so it is not held",
                    target.pid
                ),
                _ => {}
            }
            summary.fatals += 1;
            if let Some(recorder) = &mut recorder {
                let json = |out: &mut dyn io::Write| fatal::json(out, &report);
                let text = |out: &mut dyn io::Write| fatal::text(out, &report);
                recorder.add(told(json, text)?);
            }
            // The file first: a closed output must not lose it.
            if let Some(directory) = fatal_dir {
                let suffix = match format {
                    Format::Table => "txt",
                    Format::Json => "json",
                };
                let name = format!("fatal-{}-{}.{suffix}", target.pid, summary.fatals);
                let path = fatal_file::write(directory, &name, |out| write(out, *format, &report))?;
                eprintln!("injector: wrote {}", path.display());
            }
            if let Some(kept) = kept {
                eprintln!(
                    "injector: fatal error of process {}: told at the end",
                    target.pid
                );
                return Ok(write(kept, *format, &report)?);
            }
            teller.clear();
            let mut out = stdout().lock();
            write(&mut out, *format, &report)?;
            Ok(out.flush()?)
        })
    }

    /// Takes the probes away, reads what is left, and sums up.
    pub fn end(&mut self, ending: &Ending, mut recorder: Option<&mut Recorder>) -> Result<()> {
        self.teller.clear();
        let elapsed = self.start.elapsed();
        let (traces, known) = (&mut self.traces, &self.known);
        let mut feed = Feed::new(recorder.as_deref_mut());
        self.tracer.finish(|index, _, news| {
            feed.news(index, &mut traces[index], &known[index], &news);
        })?;
        if let Err(error) = self.report(recorder.as_deref_mut()) {
            failed(error)?;
        }
        let mut feed = Feed::new(recorder.as_deref_mut());
        let all = self.known.iter_mut().zip(&mut self.traces);
        for (index, (known, trace)) in all.enumerate() {
            let facts = known.look_now(trace);
            feed.learn(index, trace, known, facts);
        }
        feed.advance(&mut self.traces, clock::monotonic_ns());
        self.sum_up(elapsed, ending)?;
        if let Some(recorder) = recorder {
            for watch in &self.watched {
                let json = |out: &mut dyn io::Write| output::watch::json(out, watch);
                let text = |out: &mut dyn io::Write| output::watch::text(out, watch);
                recorder.add(told(json, text)?);
            }
            let json = |out: &mut dyn io::Write| maps::json(out, &self.summary);
            let text = |out: &mut dyn io::Write| maps::text(out, &self.summary);
            recorder.add(told(json, text)?);
        }
        Ok(())
    }

    fn sum_up(&mut self, elapsed: Duration, ending: &Ending) -> Result<()> {
        self.summary.ended(elapsed, ending.to_string());
        for target in self.tracer.targets() {
            let tracing = &target.tracing;
            let events = tracing.events.iter().map(|it| (it, true));
            let fatals = tracing.fatals.iter().map(|it| (it, false));
            for (attachment, is_op) in events.chain(fatals) {
                let used = self.tracer.site(attachment.cookie.site)?;
                let event = Some(attachment.probe.event).filter(|_| is_op);
                self.summary.add(attachment.probe.function, event, used);
            }
            for (function, why) in &tracing.left_out {
                self.summary.leave_out(function, why);
            }
        }
        for known in &self.known {
            let (different, wrong) = known.stacks();
            self.summary.stacks.different += different;
            self.summary.stacks.wrong += wrong;
            self.summary.no_names = known.lacks_names();
        }
        let watches = self.watches.take().map(|it| it.finish(&mut self.tracer));
        self.watched = watches.transpose()?.unwrap_or_default();
        self.summary.spent = spent(self.tracer.spending());
        self.summary.lose(&self.tracer.counters()?);
        Ok(())
    }

    /// Tells what it came to. A recording has more on each finding.
    pub fn tell(mut self, recording: Option<&Path>) -> io::Result<()> {
        stdout().write_all(&self.kept.take().unwrap_or_default())?;
        self.teller.finish(&mut self.traces)?;
        let mut out = stdout().lock();
        for watch in &self.watched {
            match self.format {
                Format::Table => output::watch::text(&mut out, watch)?,
                Format::Json => output::watch::json(&mut out, watch)?,
            }
        }
        match self.format {
            Format::Table => {
                maps::text(&mut out, &self.summary)?;
                let targets = self.tracer.targets().iter().map(|target| target.pid);
                let findings = findings::all(targets.zip(&self.traces));
                out.write_all(b"\n")?;
                findings::text(&mut out, &findings, recording)?;
            }
            Format::Json => maps::json(&mut out, &self.summary)?,
        }
        out.flush()
    }

    /// What is traced, for a recording.
    pub fn programs(&self) -> impl Iterator<Item = RecordedProgram> {
        let targets = self.tracer.targets().iter().zip(&self.traces);
        targets.enumerate().map(|(index, (target, trace))| {
            let program = target.loaded.program();
            RecordedProgram {
                index: index as u32,
                pid: target.pid,
                tgid: target.tracing.layout.tgid,
                file: program.image().name.clone(),
                go_version: program.version.as_ref().map(ToString::to_string),
                swiss: maps_of(program) == MapKind::Swiss,
                start_ns: self.tracer.start_ns(),
                sends: trace.blame().is_some(),
                locks: Some(LockLayout::of(&program.offsets).into()),
            }
        })
    }

    /// Records what the stack of a send is.
    pub fn name(&self, stack: &SendStack, recorder: &mut Recorder) {
        let depth = usize::try_from(stack.depth).unwrap_or(usize::MAX);
        let frames = &stack.frames[..depth.min(stack.frames.len())];
        let known = &self.known[usize::from(TARGET)];
        let shows = |function: &str| known.shows(function);
        recorder.name(TARGET.into(), frames, || known.look_up(frames), shows);
    }

    /// What is known of a run that does nothing else.
    fn info(&self) -> RunInfo {
        RunInfo {
            targets: format!("process {} ({})", self.summary.pid, self.summary.program),
            rules: Vec::new(),
            mode: Mode::Shadow,
            seed: 0,
            hook: String::new(),
            engine: String::new(),
            ended: String::new(),
            start_ns: self.tracer.start_ns(),
            elapsed: Duration::ZERO,
            in_flight: 0,
            skipped: 0,
            own_cpu: None,
        }
    }
}

/// Something as JSON and for people, for a recording.
fn told(
    json: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    text: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> io::Result<Content> {
    let (mut object, mut page) = (Vec::new(), Vec::new());
    json(&mut object)?;
    text(&mut page)?;
    let string = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    Ok(Content::Told(Told {
        json: string(object),
        text: string(page),
    }))
}

/// It would not be traced without.
fn maps_of(program: &Program) -> MapKind {
    program.maps.unwrap_or(MapKind::Swiss)
}

fn traces(tracer: &MapTracer) -> Vec<Trace> {
    let programs = tracer.targets().iter().map(|it| it.loaded.program());
    programs
        .map(|program| {
            Trace::new(
                tracer.start_ns(),
                maps_of(program),
                LockLayout::of(&program.offsets),
            )
        })
        .collect()
}

fn spent(spending: Spending) -> Spent {
    Spent {
        budget: spending.budget,
        cost: spending.cost_ns as f64 / spending.elapsed_ns.max(1) as f64,
        cost_ns: spending.cost_ns,
        trap_ns: spending.traps.emulated_ns,
        trap_single_stepped_ns: spending.traps.single_stepped_ns,
        own_ns: own_cpu().map_or(0, nanoseconds),
        windows: spending.windows,
        longest_attach_ns: nanoseconds(spending.longest_attach),
        longest_detach_ns: spending.longest_detach.map(nanoseconds),
        end_detach_ns: nanoseconds(spending.end_detach),
        overlaps: spending.overlaps,
        seen: spending
            .seen
            .into_iter()
            .map(|(event, share)| Seen::new(event, share))
            .collect(),
        dropped: spending.dropped,
    }
}

fn announce(target: &Traced) {
    let tracing = &target.tracing;
    let is_op = |event: Event| event.is_map_op();
    let ops = tracing.events.iter().filter(|it| is_op(it.probe.event));
    let ops = ops.count();
    eprintln!(
        "injector: attached: {ops} probes on map operations, {} on locks and the runtime, {} on \
         fatal errors of process {}",
        tracing.events.len() - ops,
        tracing.fatals.len(),
        target.pid
    );
    for (function, why) in &tracing.left_out {
        eprintln!("injector: {function} is not probed: {why}");
    }
}

/// Waits for hits of watched maps; for ever without any.
async fn watched(watches: &mut Option<Watches>) -> io::Result<()> {
    match watches {
        Some(watches) => watches.ready().await,
        None => std::future::pending().await,
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
pub fn failed(error: anyhow::Error) -> Result<Ending> {
    match error.downcast::<io::Error>() {
        Ok(error) => closed(error),
        Err(error) => Err(error),
    }
}
