//! What a run attaches: hooks, and the engine that goes with them.

use std::time::Duration;

use anyhow::Result;
use injector_ebpf::{Hook, Operation};

use super::{run::Job, sink::Sink};
use crate::{
    kernel::{
        Kernel,
        engine::{self, EngineChoice, NoSleep, Way},
        hooks::HookError,
        host::{Host, NotInList},
        sleep::{Refused, Sends},
    },
    plan::{Delay, Plan, duration::compact},
    sleeper::Sleeper,
};

/// A hook that could not be attached.
#[derive(Debug, thiserror::Error)]
#[error("no hook for sends works on this kernel:{}\nrun `injector doctor` for what would change that", reasons(.0))]
pub struct NoHook(Refused);

fn reasons(refused: &[(Hook, HookError)]) -> String {
    refused.iter().fold(String::new(), |text, (hook, error)| {
        format!("{text}\n  {}: {error}", hook.name())
    })
}

/// Sends cannot be made to fail here.
#[derive(Debug, thiserror::Error)]
pub enum NoErrorHook {
    /// The kernel refuses the program.
    #[error(
        "--error, and --on other than send, need BPF LSM hooks, which this kernel refuses: {0}; \
         `injector doctor` says what would change that"
    )]
    Refused(HookError),
    /// The program would be attached and never called.
    #[error(
        "--error, and --on other than send, need BPF LSM, and {0}; {remedy}", remedy = .0.remedy()
    )]
    NotInList(NotInList),
    /// Nothing would see the sends that are not failed.
    #[error(
        "failing sends needs BPF LSM with the kprobe or fentry hook beside it, and only \
         tracepoints are in use here; `injector doctor` says why"
    )]
    OnlyTracepoints,
    /// A map of ours.
    #[error("{0}")]
    Control(String),
}

/// `--engine sleep` where threads cannot sleep.
#[derive(Debug, thiserror::Error)]
#[error(
    "the sleep engine does not work here: {}; --engine spin does, up to --max-spin",
    .0.advice()
)]
pub struct NoSleepEngine(NoSleep);

/// The engine of a run.
pub enum Engine {
    /// The thread burns its CPU.
    Spin,
    /// The thread sleeps.
    Sleep {
        /// Where.
        way: Way,
        /// Who wakes it.
        sleeper: Sleeper,
    },
}

/// A spin ceiling above this is warned about: it is the default, and a raised
/// one means that somebody wants to burn CPUs.
const MODEST_SPIN: Duration = Duration::from_millis(10);
/// How long the end of a run waits for sleepers that have been let go.
const GOING: Duration = Duration::from_secs(2);

impl Engine {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Spin => engine::SPIN,
            Self::Sleep { .. } => engine::SLEEP,
        }
    }

    /// What it does, for the summary.
    pub fn describe(&self, plan: &Plan) -> String {
        match self {
            Self::Spin => format!(
                "spin, at most {} for one call",
                compact(plan.limits.max_spin)
            ),
            Self::Sleep { way, .. } => format!("sleep, {}", way.describe(&operations(plan))),
        }
    }

    /// Whether sleepers are still woken. A server that has died has let them
    /// go; one that hangs is ended, which lets them go.
    pub fn check(&mut self) -> Result<()> {
        match self {
            Self::Spin => Ok(()),
            Self::Sleep { sleeper, .. } => sleeper.check(),
        }
    }

    /// Ends what is left of an engine that has failed.
    pub fn stop(&mut self) {
        if let Self::Sleep { sleeper, .. } = self {
            sleeper.stop();
        }
    }

    /// The run is over and the lease with it: has the server let everybody go,
    /// and waits until it has.
    pub fn release(&mut self, sink: &mut Sink) {
        let Self::Sleep { sleeper, .. } = self else {
            return;
        };
        match sleeper.release(GOING) {
            Ok(()) => {}
            Err(error) => sink.note(&format!("{error:#}; ending it lets every sleeper go")),
        }
    }
}

/// What is attached.
pub struct Attached {
    /// The hook that sees sends.
    pub hook: Hook,
    /// The engine that delays them.
    pub engine: Engine,
    /// What is not as good as it could be, and why.
    pub notes: Vec<String>,
}

/// Attaches everything, or nothing.
pub fn attach(job: &Job, kernel: &mut Kernel) -> Result<Attached> {
    let wants_sleep = job.engine != EngineChoice::Spin && delays(&job.plan);
    let Sends {
        hook,
        passed_over,
        mut way,
    } = sends(job, wants_sleep, kernel)?;
    let mut notes: Vec<String> = passed_over
        .into_iter()
        .map(|(better, why)| format!("hook {} is not used: {why}", better.name()))
        .collect();

    let sleeps_in_lsm = matches!(way, Some(Ok(Way::Lsm)));
    let mut lsm = attach_lsm(job, hook, sleeps_in_lsm, kernel);
    if sleeps_in_lsm && let Err(NoErrorHook::Refused(error)) = lsm {
        // The programs that never sleep may be accepted, or not be needed.
        kernel.detach(Hook::Lsm);
        way = Some(Err(error.into()));
        lsm = attach_lsm(job, hook, false, kernel);
    }
    if let Err(error) = lsm {
        // What shadow mode only imagines need not be possible here.
        if job.plan.acts() || hook == Hook::Lsm {
            return Err(error.into());
        }
        notes.push(format!("a run that acts would be refused here: {error}"));
    }

    let engine = match way.map(|way| Ok((way?, kernel.start_sleeper()?))) {
        Some(Ok((way, sleeper))) => Engine::Sleep { way, sleeper },
        Some(Err(why)) if job.engine == EngineChoice::Sleep => {
            return Err(NoSleepEngine(why).into());
        }
        Some(Err(why)) => {
            notes.push(format!("engine sleep is not used: {}", why.advice()));
            Engine::Spin
        }
        None => Engine::Spin,
    };
    if matches!(engine, Engine::Spin) && delays(&job.plan) {
        notes.extend(spin_costs(&job.plan));
    }
    Ok(Attached {
        hook,
        engine,
        notes,
    })
}

/// Attaches the LSM hooks that the plan needs beside `hook`: to sleep, to fail
/// calls, and to see calls other than sends.
fn attach_lsm(job: &Job, hook: Hook, sleeps: bool, kernel: &mut Kernel) -> Result<(), NoErrorHook> {
    let fails = job.plan.needs_error_hook();
    let wanted: Vec<Operation> = operations(&job.plan)
        .into_iter()
        .filter(|operation| fails || sleeps || *operation != Operation::Send)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    Host::read()
        .check_lsm_list()
        .map_err(NoErrorHook::NotInList)?;
    // The LSM hook would be taken for a nested call of the send that the
    // tracepoints follow.
    if hook == Hook::Tracepoint && wanted.contains(&Operation::Send) {
        return Err(NoErrorHook::OnlyTracepoints);
    }
    for operation in wanted {
        kernel
            .attach_operation(operation, sleeps)
            .map_err(NoErrorHook::Refused)?;
    }
    kernel
        .set_control(|control| control.error_hook = u64::from(fails))
        .map_err(|error| NoErrorHook::Control(format!("{error:#}")))
}

/// What spinning costs and leaves out, that the flags do not show.
fn spin_costs(plan: &Plan) -> Vec<String> {
    let ceiling = plan.limits.max_spin;
    let mut notes = Vec::new();
    if ceiling > MODEST_SPIN {
        notes.push(format!(
            "warning: --max-spin {0}: each delay burns a CPU for up to {0}; nothing else runs on \
             that CPU meanwhile, and as many delays at once as there are CPUs stop the host",
            compact(ceiling)
        ));
    }
    let is_longer = |delay: &Delay| delay.longest().is_none_or(|longest| longest > ceiling);
    if plan
        .rules
        .iter()
        .any(|rule| rule.fault.delay.as_ref().is_some_and(is_longer))
    {
        notes.push(format!(
            "the spin engine cuts delays short at {} (--max-spin); asked and delivered delays are \
             shown apart",
            compact(ceiling)
        ));
    }
    notes
}

/// Whether a run can come to delay anything, also through its control socket.
fn delays(plan: &Plan) -> bool {
    plan.acts() && plan.rules.iter().any(|rule| rule.fault.delay.is_some())
}

/// What calls the plan is about.
fn operations(plan: &Plan) -> Vec<Operation> {
    let all = Operation::ALL.iter().map(|(operation, _, _)| *operation);
    all.filter(|operation| plan.is_about(*operation)).collect()
}

/// The hook for sends; none is needed for other calls, whose LSM hooks see them.
fn sends(job: &Job, wants_sleep: bool, kernel: &mut Kernel) -> Result<Sends, NoHook> {
    if job.plan.is_about(Operation::Send) {
        return kernel.attach_sends(job.hook, wants_sleep).map_err(NoHook);
    }
    Ok(Sends {
        hook: Hook::Lsm,
        passed_over: Vec::new(),
        way: wants_sleep.then(|| kernel.check_sleep(Way::Lsm).map(|()| Way::Lsm)),
    })
}
