//! The loop of a run.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use injector_ebpf::{Budget, Hook, LifecycleEvent, SendRecord, SendStack, Target};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    attach::{self, Attached, Engine},
    command::Command,
    control::{Asked, ControlSocket, Request},
    ending::Ending,
    maps::{self, Observed, failed},
    recording::Recording,
    rules::Rules,
    sink::{Format, Sink, Verbosity},
    tui::{self, Tui},
};
use crate::{
    clock,
    explain::{RunInfo, Summary, Totals},
    kernel::{HookChoice, Kernel, engine::EngineChoice},
    output::{
        mode_name,
        tui::{Acting, Action, Model, Program, Sends},
    },
    plan::{Plan, compile},
    recording::schema::Content,
    target::{
        Selector, Tracker,
        process::Process,
        tracker::{Change, TargetTable},
    },
};

/// How often the send ring is looked at. The kernel side wakes us earlier when
/// it fills up.
const POLL: Duration = Duration::from_millis(20);
/// How often in its length the lease is renewed, and the engine's server asked for
/// a sign of life: with two unanswered, it is ended before the lease is.
const RENEWALS: u32 = 4;
/// How often processes are compared with the target table.
const SCAN: Duration = Duration::from_secs(2);
/// How often the status is written: to a terminal or JSON, and to a log.
const STATUS: Duration = Duration::from_secs(1);
/// Records handled before other work gets its turn.
const BATCH: usize = 16_384;

/// Everything a run needs to know.
pub struct Job {
    /// What to do.
    pub plan: Plan,
    /// To whom.
    pub selector: Selector,
    /// The command behind `--`, waiting.
    pub command: Option<Command>,
    /// Which hook.
    pub hook: HookChoice,
    /// Which engine.
    pub engine: EngineChoice,
    /// Size of the target table.
    pub max_targets: u32,
    /// Lease of the kernel side.
    pub lease: Duration,
    /// To trace the maps of a target, too.
    pub maps: Option<maps::Job>,
    /// Where the run is recorded.
    pub record: Option<PathBuf>,
    /// Path of the control socket.
    pub control: Option<PathBuf>,
    /// Whether the terminal UI shows the run, in the place of lines.
    pub tui: bool,
    /// Output.
    pub format: Format,
    /// Output.
    pub verbosity: Verbosity,
}

/// Processes cannot be followed here.
#[derive(Debug, thiserror::Error)]
#[error("cannot follow processes that start and end: {0}; `injector doctor` says what is missing")]
pub struct NoLifecycle(crate::kernel::hooks::HookError);

/// Runs the job to its end.
pub async fn run(job: Job) -> Result<Ending> {
    let mut run = Run::start(job)?;
    let ending = run.events().await;
    run.finish(ending)
}

struct Run {
    job: Job,
    kernel: Kernel,
    rules: Rules,
    tracker: Tracker,
    sends: AsyncFd<crate::stream::Events<SendRecord>>,
    lifecycle: AsyncFd<crate::stream::Events<LifecycleEvent>>,
    requests: mpsc::Receiver<Asked>,
    _control: Option<ControlSocket>,
    sink: Sink,
    tui: Option<Tui>,
    summary: Summary,
    recording: Option<Recording>,
    /// Sends that were read, until their stacks are.
    sent: Vec<SendRecord>,
    observed: Option<Observed>,
    /// Read when they are recorded.
    stacks: Option<crate::stream::Events<SendStack>>,
    hook: Hook,
    engine: Engine,
    /// Whether the run was started as one that acts, and has the lock for it.
    may_act: bool,
    start_ns: u64,
    start: Instant,
    /// Whether the time for acting lasts.
    acting: bool,
    /// Whether a person lets every send through for now.
    paused: bool,
}

struct Table<'k>(&'k mut Kernel);

impl TargetTable for Table<'_> {
    fn add(&mut self, pid: u32, target: Target) -> bool {
        self.0.add_target(pid, target).is_ok()
    }

    fn remove(&mut self, pid: u32) {
        self.0.remove_target(pid);
    }
}

impl Run {
    fn start(mut job: Job) -> Result<Self> {
        // Among a thousand threads that want the CPU, the lease would run out; as
        // in the sleep engine's server, it does not matter if this is refused.
        let _ = rustix::process::setpriority_process(None, -20);
        // Before anything is attached: the file may be there already.
        let recording = job.record.as_deref().map(Recording::create).transpose()?;
        let mut kernel = Kernel::load(job.max_targets)?;
        if let Some(parent) = job.command.as_mut().and_then(Command::take_parent) {
            kernel.set_parent(parent);
        }
        kernel.forward_log()?;
        let sends = crate::stream::Events::new(kernel.take_sends()?);
        let lifecycle = crate::stream::Events::new(kernel.take_lifecycle()?);
        // SAFETY: both rings own their descriptor, return the same one each
        // time, and are never taken out of the `AsyncFd`.
        let (sends, lifecycle) = unsafe {
            (
                AsyncFd::register_with_interest(sends, Interest::READABLE)?,
                AsyncFd::register_with_interest(lifecycle, Interest::READABLE)?,
            )
        };

        let rules = Rules::install(&job.plan, &mut kernel)?;
        kernel.set_control(|control| {
            compile::limits(&job.plan.limits, control);
            control.mode = job.plan.mode as u64;
        })?;

        // Processes first, so that none is missed between scan and attachment.
        kernel.attach_lifecycle().map_err(NoLifecycle)?;
        let Attached {
            hook,
            engine,
            notes,
        } = attach::attach(&job, &mut kernel)?;

        let start_ns = clock::monotonic_ns();
        let sink = Sink::new(job.format, job.verbosity, start_ns);
        let mut tracker = Tracker::new(job.selector.clone(), 0);
        let changes = tracker.scan(&Process::all()?, &mut Table(&mut kernel));
        let (sender, requests) = mpsc::channel(8);
        let control = job
            .control
            .as_ref()
            .map(|path| ControlSocket::listen(path, sender))
            .transpose()?;

        let mut run = Self {
            rules,
            tracker,
            sends,
            lifecycle,
            requests,
            _control: control,
            sink,
            tui: None,
            summary: Summary::default(),
            recording,
            sent: Vec::new(),
            observed: None,
            stacks: None,
            hook,
            engine,
            may_act: job.plan.acts(),
            start_ns,
            start: Instant::now(),
            acting: true,
            paused: false,
            kernel,
            job,
        };
        run.observe()?;
        run.begin_recording()?;
        if !run.job.verbosity.quiet {
            for note in &notes {
                run.note(note);
            }
        }
        // Attaching can take longer than the lease on a slow machine.
        run.kernel.renew_lease(run.job.lease)?;
        run.announce();
        run.report(&changes);
        if run.tracker.len() == 0 {
            run.note(&format!(
                "no process matches yet ({}); waiting",
                run.job.selector
            ));
        }
        if let Some(command) = &mut run.job.command {
            command.start()?;
        }
        run.start_tui()?;
        Ok(run)
    }

    fn start_tui(&mut self) -> Result<()> {
        if self.job.tui {
            self.tui = Some(Tui::start(Model {
                duration: self.job.plan.duration,
                sends: Some(Sends::new(self.start_ns)),
                ..Model::default()
            })?);
            self.show()?;
        }
        Ok(())
    }

    /// Shows what is known now in the UI, if there is one.
    fn show(&mut self) -> Result<()> {
        let totals = self.totals()?;
        let acting = self.acting();
        let targets = format!("{}: {} processes", self.job.selector, self.tracker.len());
        let elapsed = self.start.elapsed();
        let Some(Tui { model, .. }) = &mut self.tui else {
            return Ok(());
        };
        model.elapsed = elapsed;
        model.targets = targets;
        model.acting = Some(acting);
        model.cost = tui::own_cost(own_cpu(), elapsed, &totals);
        if let Some(sends) = &mut model.sends {
            sends.second(totals, &self.summary);
        }
        if let Some(observed) = &self.observed {
            model.program = Some(Program::of(observed.trace()));
            model.cost.extend(tui::probe_cost(&observed.spent()));
        }
        if let Some(tui) = &mut self.tui {
            tui.draw()?;
        }
        Ok(())
    }

    /// What is done to sends at the moment.
    fn acting(&self) -> Acting {
        let rules = self.job.plan.rules.iter().map(ToString::to_string);
        Acting {
            rule: rules.collect::<Vec<_>>().join("; "),
            mode: self.job.plan.mode,
            paused: self.paused || !self.acting,
        }
    }

    /// Carries out what a key asks for, which may end the run.
    fn pressed(&mut self, action: io::Result<Action>) -> Result<Option<Ending>> {
        let action = match action {
            Ok(action) => action,
            Err(error) => return closed(error).map(Some),
        };
        let request = tui::request(action, &self.job.plan, self.paused);
        let uid = nix::unistd::geteuid();
        let outcome = self.carry_out(&request, &format!("key: uid {uid}"));
        if request == Request::Stop {
            return Ok(Some(Ending::Key));
        }
        let acting = self.acting();
        let Some(tui) = &mut self.tui else {
            return Ok(None);
        };
        tui.model.acting = Some(acting);
        let answer = outcome.unwrap_or_else(|why| format!("refused: {why}"));
        match tui.answer(answer) {
            Ok(()) => Ok(None),
            Err(error) => closed(error).map(Some),
        }
    }

    /// The time is up, and the command that was started runs on.
    fn stop_acting(&mut self) -> Result<()> {
        self.acting = false;
        self.kernel.set_control(|control| control.lease_ns = 0)?;
        self.note("the time is up (--duration): the command runs on untouched");
        Ok(())
    }

    /// Tells how the run is going.
    fn tell(&mut self) -> Result<()> {
        if let Some(recording) = &mut self.recording {
            recording.flush()?;
        }
        if self.tui.is_some() {
            return self.show();
        }
        let totals = self.totals()?;
        Ok(self.sink.status(&totals, self.start.elapsed())?)
    }

    /// Traces the maps of a target, if that is wanted.
    fn observe(&mut self) -> Result<()> {
        if let Some(job) = self.job.maps.take() {
            let mut observed = Observed::start(job)?;
            observed.expect_sends();
            self.kernel.know_goroutines(observed.layout())?;
            self.observed = Some(observed);
            if self.recording.is_some() {
                let stacks = self.kernel.take_stacks()?;
                self.stacks = Some(crate::stream::Events::new(stacks));
                self.kernel.set_control(|control| control.stacks = 1)?;
            }
        }
        Ok(())
    }

    fn begin_recording(&mut self) -> Result<()> {
        let info = self.info();
        match &mut self.recording {
            Some(recording) => {
                let programs = self.observed.iter().flat_map(Observed::programs);
                recording.begin(&info, self.start, programs)
            }
            None => Ok(()),
        }
    }

    /// What happened to targets and the run.
    fn note(&mut self, text: &str) {
        if let Some(recording) = &mut self.recording {
            recording.recorder.add(Content::Note(text.to_owned()));
        }
        self.sink.note(text);
    }

    /// What is known of the run so far.
    fn info(&self) -> RunInfo {
        RunInfo {
            targets: format!("{} ({} processes)", self.job.selector, self.tracker.ever()),
            rules: self
                .job
                .plan
                .rules
                .iter()
                .map(ToString::to_string)
                .collect(),
            mode: self.job.plan.mode,
            seed: self.job.plan.seed,
            hook: self.hook.name().to_owned(),
            engine: self.engine.describe(&self.job.plan),
            ended: String::new(),
            start_ns: self.start_ns,
            elapsed: self.start.elapsed(),
            in_flight: 0,
            skipped: 0,
            own_cpu: None,
        }
    }

    fn announce(&mut self) {
        let mode = mode_name(self.job.plan.mode);
        let end = match self.job.plan.duration {
            Some(duration) => {
                format!("ends after {}", crate::plan::duration::compact(duration))
            }
            None => "runs until it is stopped".to_owned(),
        };
        self.note(&format!(
            "attached: hook {}, engine {}, mode {mode}, seed {}, lease {}, {end}",
            self.hook.name(),
            self.engine.name(),
            self.job.plan.seed,
            crate::plan::duration::compact(self.job.lease),
        ));
    }

    /// Everything that happens until something ends the run.
    async fn events(&mut self) -> Result<Ending> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut poll = ticks(POLL);
        let mut scan = ticks(SCAN);
        let mut status = ticks(STATUS);
        let mut lease = ticks(self.job.lease / RENEWALS);
        let mut deadline = self.job.plan.duration.map(|duration| self.start + duration);
        let mut command = self.job.command.take();

        let has_command = command.is_some();
        let ending = {
            let mut ended = std::pin::pin!(ended(command.as_mut()));
            loop {
                tokio::select! {
                    biased;
                    _ = lease.tick(), if self.acting => {
                        if !self.paused {
                            self.kernel.renew_lease(self.job.lease)?;
                        }
                        if let Err(error) = self.engine.check() {
                            break Ending::Engine(format!("{error:#}"));
                        }
                    }
                    _ = interrupt.recv() => break Ending::Signal("SIGINT"),
                    _ = terminate.recv() => break Ending::Signal("SIGTERM"),
                    _ = hangup.recv() => break Ending::Signal("SIGHUP"),
                    () = until(deadline) => {
                        if !has_command {
                            break Ending::Duration;
                        }
                        // The command's exit code is still ours to return.
                        deadline = None;
                        self.stop_acting()?;
                    }
                    code = &mut ended => break Ending::Command(code?),
                    Some(asked) = self.requests.recv() => {
                        if self.answer(asked) {
                            // The answer is written by a task that ends with us.
                            tokio::task::yield_now().await;
                            break Ending::Control;
                        }
                    }
                    action = tui::action(&mut self.tui) => {
                        if let Some(ending) = self.pressed(action)? {
                            break ending;
                        }
                    }
                    ready = self.lifecycle.readable() => {
                        ready?.clear_ready();
                        self.processes()?;
                    }
                    _ = scan.tick() => {
                        let changes = self.tracker.scan(&Process::all()?, &mut Table(&mut self.kernel));
                        self.report(&changes);
                    }
                    _ = status.tick() => {
                        if let Err(error) = self.tell() {
                            break failed(error)?;
                        }
                        if self.total_delay_is_used_up()? {
                            break Ending::TotalDelay;
                        }
                    }
                    ready = self.sends.readable() => {
                        ready?.clear_ready();
                        if let Err(error) = self.records() {
                            break closed(error)?;
                        }
                    }
                    turn = turn(&mut self.observed) => {
                        // What was sent before comes before.
                        if let Err(error) = self.records() {
                            break closed(error)?;
                        }
                        let recorder = self.recording.as_mut().map(|it| &mut it.recorder);
                        let turned = turn.and_then(|turn| match &mut self.observed {
                            Some(observed) => observed.turn(turn, recorder),
                            None => Ok(()),
                        });
                        if let Err(error) = turned {
                            break failed(error)?;
                        }
                    }
                    _ = poll.tick() => {
                        if let Err(error) = self.records() {
                            break closed(error)?;
                        }
                    }
                }
                if !has_command && self.tracker.len() == 0 && !self.job.selector.is_open() {
                    break Ending::TargetsGone;
                }
            }
        };
        if let (Some(command), Ending::Signal(_)) = (&command, &ending) {
            command.pass(nix::sys::signal::Signal::SIGTERM);
        }
        Ok(ending)
    }

    /// Reads the send ring.
    fn records(&mut self) -> io::Result<usize> {
        let Self {
            sends,
            summary,
            sink,
            tui,
            recording,
            sent,
            observed,
            stacks,
            ..
        } = self;
        let count = sends
            .get_mut()
            .drain(BATCH, |record| {
                summary.record(record);
                if let Some(observed) = observed {
                    observed.send(record);
                }
                if recording.is_some() {
                    sent.push(*record);
                }
                match tui.as_mut().map(|tui| &mut tui.model.sends) {
                    None => sink.send(record)?,
                    Some(sends) => sends.iter_mut().for_each(|sends| sends.record(record)),
                }
                Ok(())
            })
            .map_err(as_io)?;
        if let Some(recording) = recording {
            let recorder = &mut recording.recorder;
            // Each was there before its send was.
            if let (Some(stacks), Some(observed)) = (stacks, observed) {
                let drained = stacks.drain(usize::MAX, |stack| {
                    observed.name(stack, recorder);
                    recorder.add(Content::Stack(stack.into()));
                    Ok(())
                });
                drained.map_err(as_io)?;
            }
            for record in sent.drain(..) {
                recorder.add(Content::Send((&record).into()));
            }
        }
        self.sink.flush()?;
        Ok(count)
    }

    /// Reads the process ring.
    fn processes(&mut self) -> Result<()> {
        let Self {
            lifecycle,
            tracker,
            kernel,
            ..
        } = self;
        let mut changes = Vec::new();
        lifecycle.get_mut().drain(BATCH, |event| {
            changes.extend(tracker.event(event, &mut Table(kernel)));
            Ok(())
        })?;
        self.report(&changes);
        Ok(())
    }

    fn report(&mut self, changes: &[Change]) {
        if self.job.verbosity.quiet {
            return;
        }
        for change in changes {
            let text = match change {
                Change::Added { pid, comm } => format!("target + {pid} {comm}"),
                Change::Removed { pid, ended: true } => format!("target - {pid} (ended)"),
                Change::Removed { pid, ended: false } => {
                    format!("target - {pid} (no longer matches)")
                }
                Change::Refused { pid, reason } => {
                    format!("process {pid} matches but is left alone: {reason}")
                }
            };
            self.note(&text);
        }
    }

    /// Carries out a request; true when it ends the run.
    fn answer(&mut self, asked: Asked) -> bool {
        let Asked {
            request,
            uid,
            pid,
            answer,
        } = asked;
        let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
        let result = self.carry_out(&request, &format!("control: uid {uid} (pid {pid})"));
        let _ = answer.send(result);
        request == Request::Stop
    }

    /// Changes the run, with a line that says who has.
    fn carry_out(&mut self, request: &Request, who: &str) -> Result<String, String> {
        let result = self.change(request);
        if *request != Request::Status {
            let outcome = match &result {
                Ok(text) => text.clone(),
                Err(error) => format!("refused: {error}"),
            };
            self.note(&format!("{who}: {outcome}"));
        }
        result
    }

    fn change(&mut self, request: &Request) -> Result<String, String> {
        let explain = |error: anyhow::Error| format!("{error:#}");
        let mut plan = self.job.plan.clone();
        let text = match request {
            Request::Status => {
                let totals = self.totals().map_err(explain)?;
                let mut line = Vec::new();
                crate::output::json::Json::default()
                    .status(&mut line, &totals, self.start.elapsed())
                    .map_err(|error| error.to_string())?;
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            Request::Stop => return Ok("stopping".to_owned()),
            Request::Pause | Request::Resume => {
                return self.pause(*request == Request::Pause).map_err(explain);
            }
            Request::Mode(mode) => {
                plan.mode = *mode;
                format!("mode {}", mode_name(*mode))
            }
            Request::Probability(probability) => {
                plan.rules[0].probability = *probability;
                format!("probability {probability}")
            }
            Request::Delay(delay) => {
                plan.rules[0].fault.delay = Some(delay.clone());
                format!("delay {delay}")
            }
        };
        plan.validate().map_err(|error| error.to_string())?;
        if plan.acts() && !self.may_act {
            return Err(
                "this run was started without the right to act; start one that acts".to_owned(),
            );
        }
        self.rules
            .replace(0, &plan.rules[0], plan.seed, &mut self.kernel)
            .map_err(explain)?;
        let mode = plan.mode;
        self.kernel
            .set_control(|control| control.mode = mode as u64)
            .map_err(explain)?;
        self.job.plan = plan;
        Ok(text)
    }

    /// Lets every send through from now on, or no longer. While that lasts the
    /// lease is over, as if nobody were here.
    fn pause(&mut self, pause: bool) -> Result<String> {
        ensure!(
            self.acting,
            "the time is up (--duration): every send is let through"
        );
        self.paused = pause;
        if pause {
            self.kernel.set_control(|control| control.lease_ns = 0)?;
            return Ok("paused: every send is let through".to_owned());
        }
        self.kernel.renew_lease(self.job.lease)?;
        Ok("resumed".to_owned())
    }

    fn totals(&self) -> Result<Totals> {
        Ok(self.kernel.stats()?.iter().collect())
    }

    fn total_delay_is_used_up(&self) -> Result<bool> {
        let Budget {
            total_delay_ns,
            total_refusals,
            ..
        } = self.kernel.budget()?;
        Ok(self
            .job
            .plan
            .limits
            .max_total_delay
            .is_some_and(|limit| u128::from(total_delay_ns) >= limit.as_nanos())
            || total_refusals > 0)
    }

    /// Lets every send through, reads what is left, and reports.
    fn finish(mut self, ending: Result<Ending>) -> Result<Ending> {
        // First of all nobody is delayed any more, whatever else fails.
        self.kernel.set_control(|control| control.lease_ns = 0)?;
        let elapsed = self.start.elapsed();
        // What follows is for the terminal as it was.
        self.tui = None;
        match &ending {
            // It has let everybody go by dying.
            Ok(Ending::Engine(_)) => self.engine.stop(),
            _ => self.engine.release(&mut self.sink),
        }
        let skipped = self.kernel.skipped();
        self.kernel.detach(self.hook);
        self.kernel.detach(Hook::Lsm);
        let in_flight = self.kernel.in_flight() as u64;
        let ending = ending?;
        if matches!(ending, Ending::Engine(_)) {
            self.note(&format!("{ending}; no send is delayed any more"));
        }
        if ending != Ending::OutputClosed {
            // Hooks are gone, so the ring comes to an end.
            while self.records()? > 0 {}
        }
        let totals = self.totals()?;
        let info = RunInfo {
            ended: ending.to_string(),
            elapsed,
            in_flight,
            skipped,
            own_cpu: own_cpu(),
            ..self.info()
        };
        let mut observed = self.observed.take();
        if let Some(observed) = &mut observed {
            let recorder = self.recording.as_mut().map(|it| &mut it.recorder);
            observed.end(&ending, recorder)?;
        }
        let path = self.recording.as_ref().map(|it| it.path().to_owned());
        if let Some(recording) = self.recording.take() {
            self.sink.note(&recording.end(&info, &totals)?);
        }
        let summary = self.sink.summary(&info, &self.summary, &totals);
        let told = summary.and_then(|()| match observed {
            Some(observed) => Ok(observed.tell(path.as_deref())?),
            None => Ok(()),
        });
        match told {
            Err(error) if is_closed(&error) => Ok(ending),
            Err(error) => Err(error),
            Ok(()) => Ok(ending),
        }
    }
}

pub(super) fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until there is something to do for the program that is observed; for
/// ever without one.
async fn turn(observed: &mut Option<Observed>) -> Result<maps::Turn> {
    match observed {
        Some(observed) => observed.ready().await,
        None => std::future::pending().await,
    }
}

async fn ended(command: Option<&mut Command>) -> Result<i32> {
    match command {
        Some(command) => command.wait().await,
        None => std::future::pending().await,
    }
}

/// A reader that went away is a normal end; anything else is an error.
pub(super) fn closed(error: io::Error) -> Result<Ending> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Ok(Ending::OutputClosed)
    } else {
        Err(error).context("cannot write the output")
    }
}

fn as_io(error: anyhow::Error) -> io::Error {
    match error.downcast::<io::Error>() {
        Ok(error) => error,
        Err(error) => io::Error::other(error),
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// CPU time of this process so far.
pub(super) fn own_cpu() -> Option<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(value.tv_sec() as u64, value.tv_usec() as u32 * 1000)
    };
    Some(time(usage.user_time()) + time(usage.system_time()))
}
