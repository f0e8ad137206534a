//! What works on this host and what does not: found by loading and attaching
//! each hook and taking it back, explained from the facts of the host.

mod bench;
mod delays;
mod price;
mod reasons;

use anyhow::{Context as _, Result};
use injector_ebpf::{Hook, SEND_FUNCTIONS, SendFunction};

pub use self::{
    bench::{Bench, Effort, Rules},
    delays::EngineDelays,
    price::{HookPrice, Price, Prices},
    reasons::Reason,
};
use self::{
    price::Quick,
    reasons::{Refusal, by_errno, no_sleep, reasons, unfit},
};
use super::{
    HookChoice, Kernel,
    btf::Btf,
    engine::{self, NoSleep, Way},
    hooks,
    host::Host,
};

/// The hooks that are tried, in the order in which they are shown.
const HOOKS: [Hook; 5] = [
    Hook::Fentry,
    Hook::Kprobe,
    Hook::Tracepoint,
    Hook::SockSendLength,
    Hook::Lsm,
];

/// A hook on this host. No reasons: it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookState {
    /// The hook.
    pub hook: Hook,
    /// What it is for.
    pub purpose: &'static str,
    /// Why it does not work.
    pub reasons: Vec<Reason>,
}

/// An engine on this host. No reasons: it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub purpose: &'static str,
    /// How threads sleep, if that is what it does.
    pub way: Option<Way>,
    /// Why it does not work.
    pub reasons: Vec<Reason>,
}

/// A send function of the table and whether this kernel has it.
#[derive(Clone, Copy, Debug)]
pub struct FunctionState {
    /// The row.
    pub function: &'static SendFunction,
    /// Unknown without BTF.
    pub present: Option<bool>,
}

/// All that was found out.
#[derive(Debug)]
pub struct Diagnosis {
    /// What could be read.
    pub host: Host,
    /// What was tried.
    pub hooks: Vec<HookState>,
    /// Following processes, without which there is no run.
    pub processes: Vec<Reason>,
    /// Those for delays best first, then the others.
    pub engines: Vec<EngineState>,
    /// The hook that a run without `--hook` takes.
    pub chosen: Option<Hook>,
    /// The engine that delays in a run without `--engine`.
    pub chosen_engine: Option<&'static str>,
    /// The kernel's send functions.
    pub functions: Vec<FunctionState>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How much was done.
    pub effort: Effort,
    /// Sends of each round.
    pub sends: u64,
    /// What a send costs.
    pub prices: Prices,
    /// What delays are like, by engine, best first.
    pub delays: Vec<EngineDelays>,
}

impl Diagnosis {
    /// Without a kernel nothing can be tried; `error` is why there is none.
    pub fn without_kernel(host: Host, error: &anyhow::Error) -> Self {
        let mut reasons = unfit(&host);
        if reasons.is_empty() {
            reasons.push(Reason::without_remedy(format!("{error:#}")));
        }
        Self::new(host, every_hook(&reasons), reasons, None)
    }

    /// Tries everything, and measures meanwhile; `round` hears how far that is.
    /// What is attached last stays until `kernel` is dropped.
    pub fn examine(
        host: Host,
        kernel: &mut Kernel,
        bench: &mut Bench,
        round: impl FnMut(usize, u64),
    ) -> Result<(Self, Option<Measured>)> {
        let (hooks, processes, quick) = attempt(&host, kernel, bench)?;
        let prices = if bench.effort == Effort::QUICK {
            quick.finish()
        } else {
            let working = working(&hooks);
            let prices =
                (!working.is_empty()).then(|| price::measure(kernel, &working, bench, round));
            prices.transpose()?
        };
        let tried = choose(&hooks)
            .map(|hook| {
                delays::try_engines(kernel, hook, bench)
                    .with_context(|| format!("cannot try the engines on hook {}", hook.name()))
            })
            .transpose()?;
        let (sleep, delays) = match tried {
            Some(tried) => (Some(tried.sleep), tried.delays),
            None => (None, Vec::new()),
        };
        let measured = prices.map(|prices| Measured {
            effort: bench.effort,
            sends: bench.sends,
            prices,
            delays,
        });
        let sleep = sleep.map(|sleep| sleep.map_err(|why| sleepless(&host, kernel, &hooks, &why)));
        Ok((Self::new(host, hooks, processes, sleep), measured))
    }

    fn new(
        host: Host,
        hooks: Vec<HookState>,
        processes: Vec<Reason>,
        sleep: Option<Result<Way, Vec<Reason>>>,
    ) -> Self {
        let engines = engines(&hooks, sleep);
        Self {
            chosen: choose(&hooks),
            chosen_engine: choose_engine(&engines),
            engines,
            functions: functions(),
            host,
            hooks,
            processes,
        }
    }
}

/// Why threads do not sleep beside the hook that was chosen, and whether they
/// would beside another.
fn sleepless(host: &Host, kernel: &Kernel, hooks: &[HookState], why: &NoSleep) -> Vec<Reason> {
    let working = working(hooks);
    let Some((chosen, others)) = working.split_first() else {
        return Vec::new();
    };
    let way = Way::beside(*chosen);
    let mut reasons = no_sleep(host, way, why);
    let elsewhere = others.iter().find(|hook| {
        let other = Way::beside(**hook);
        other != way && kernel.check_sleep(other).is_ok()
    });
    if let (Some(hook), Some(reason)) = (elsewhere, reasons.last_mut()) {
        let option = format!("use --hook {}", hook.name());
        reason.remedy = Some(match &reason.remedy {
            Some(remedy) => format!("{remedy}; or {option}"),
            None => option,
        });
    }
    reasons
}

/// Hooks that see sends and work, best first.
fn working(hooks: &[HookState]) -> Vec<Hook> {
    let candidates = HookChoice::Auto.candidates().iter().copied();
    candidates.filter(|hook| works(hooks, *hook)).collect()
}

fn every_hook(reasons: &[Reason]) -> Vec<HookState> {
    let state = |hook| HookState {
        hook,
        purpose: purpose(hook),
        reasons: reasons.to_vec(),
    };
    HOOKS.into_iter().map(state).collect()
}

fn attempt(
    host: &Host,
    kernel: &mut Kernel,
    bench: &mut Bench,
) -> Result<(Vec<HookState>, Vec<Reason>, Quick)> {
    let mut states = Vec::new();
    let mut quick = Quick::default();
    for hook in HOOKS {
        let sees_sends = HookChoice::Auto.candidates().contains(&hook);
        let is_priced = sees_sends && bench.effort == Effort::QUICK;
        if is_priced {
            quick.before(bench)?;
        }
        let refusal = match kernel.attach(hook) {
            Ok(()) => {
                let hooked = is_priced.then(|| Quick::attached(bench, kernel));
                kernel.detach(hook);
                if let Some(hooked) = hooked {
                    quick.after(bench, hook, &hooked?)?;
                }
                None
            }
            Err(error) => Some(Refusal::from(&error)),
        };
        states.push(HookState {
            hook,
            purpose: purpose(hook),
            reasons: reasons(host, hook, refusal.as_ref()),
        });
    }
    // These stay until the kernel is dropped.
    let processes = match kernel.attach_lifecycle() {
        Ok(()) => Vec::new(),
        Err(error) => vec![by_errno(host, &Refusal::from(&error))],
    };
    Ok((states, processes, quick))
}

fn purpose(hook: Hook) -> &'static str {
    match hook {
        Hook::Fentry => "every send, whatever the system call; cheapest",
        Hook::Kprobe => "every send, whatever the system call",
        Hook::Tracepoint => "sends by write, writev, sendto, sendmsg, sendmmsg, sendfile, splice",
        Hook::SockSendLength => "beside tracepoint: sends of io_uring, after the fact",
        Hook::Lsm => "beside fentry or kprobe: makes sends fail (socket_sendmsg)",
    }
}

fn works(hooks: &[HookState], hook: Hook) -> bool {
    hooks
        .iter()
        .any(|state| state.hook == hook && state.reasons.is_empty())
}

fn choose(hooks: &[HookState]) -> Option<Hook> {
    working(hooks).first().copied()
}

/// The best engine that delays; the others do something else.
fn choose_engine(engines: &[EngineState]) -> Option<&'static str> {
    let delay = [engine::SLEEP, engine::SPIN];
    let mut candidates = engines
        .iter()
        .filter(|state| delay.contains(&state.name) && state.reasons.is_empty());
    candidates.next().map(|state| state.name)
}

/// `sleep`: what came of trying, if there was a hook to try it on.
fn engines(hooks: &[HookState], sleep: Option<Result<Way, Vec<Reason>>>) -> Vec<EngineState> {
    let any_hook = match choose(hooks) {
        Some(_) => Vec::new(),
        None => vec![Reason::without_remedy("no hook for sends works")],
    };
    let mut error = Vec::new();
    if !works(hooks, Hook::Lsm) {
        error.push(Reason::without_remedy(
            "it acts in the lsm hook, which does not work",
        ));
    }
    if !works(hooks, Hook::Fentry) && !works(hooks, Hook::Kprobe) {
        error.push(Reason::without_remedy(
            "it needs fentry or kprobe beside the lsm hook",
        ));
    }
    let (way, sleep) = match sleep {
        Some(Ok(way)) => (Some(way), Vec::new()),
        Some(Err(reasons)) => (None, reasons),
        None => (None, any_hook.clone()),
    };
    let state = |name, purpose, reasons| EngineState {
        name,
        purpose,
        way: None,
        reasons,
    };
    vec![
        EngineState {
            way,
            ..state(
                engine::SLEEP,
                "delays a send: its thread sleeps (--delay)",
                sleep,
            )
        },
        state(
            engine::SPIN,
            "delays a send: its thread burns its CPU (--delay)",
            any_hook.clone(),
        ),
        state("error", "fails a send with an errno (--error)", error),
        state(
            "signal",
            "signals the thread of a slow send (--on-timeout)",
            any_hook,
        ),
    ]
}

fn functions() -> Vec<FunctionState> {
    let present = Btf::from_kernel().and_then(|btf| hooks::present(&btf)).ok();
    let state = |function| FunctionState {
        function,
        present: present.as_ref().map(|present| present.contains(&function)),
    };
    SEND_FUNCTIONS.iter().map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(working: &[Hook]) -> Vec<HookState> {
        let mut states = every_hook(&[]);
        for state in &mut states {
            if !working.contains(&state.hook) {
                state.reasons.push(Reason::without_remedy("no"));
            }
        }
        states
    }

    fn no() -> Vec<Reason> {
        vec![Reason::without_remedy("no")]
    }

    #[test]
    fn engines_follow_from_hooks() {
        let available = |working: &[Hook]| {
            let sleep = choose(&states(working)).map(|_| Err(no()));
            let engines = engines(&states(working), sleep);
            let working = engines
                .into_iter()
                .filter(|engine| engine.reasons.is_empty());
            working.map(|engine| engine.name).collect::<Vec<_>>()
        };
        assert_eq!(available(&[]), [""; 0]);
        assert_eq!(available(&[Hook::Lsm]), [""; 0]);
        assert_eq!(available(&[Hook::Tracepoint]), ["spin", "signal"]);
        assert_eq!(
            available(&[Hook::Tracepoint, Hook::Lsm]),
            ["spin", "signal"]
        );
        assert_eq!(
            available(&[Hook::Kprobe, Hook::Lsm]),
            ["spin", "error", "signal"]
        );
        assert_eq!(choose(&states(&HOOKS)), Some(Hook::Fentry));
        assert_eq!(choose(&states(&[Hook::Tracepoint])), Some(Hook::Tracepoint));
        assert_eq!(choose(&states(&[Hook::Lsm])), None);
    }

    #[test]
    fn sleep_is_ranked_before_spin_and_taken_if_it_works() {
        let hooks = states(&[Hook::Kprobe, Hook::Lsm]);
        let chosen = |sleep| {
            let engines = engines(&hooks, sleep);
            let names: Vec<_> = engines.iter().map(|state| state.name).collect();
            assert_eq!(names, ["sleep", "spin", "error", "signal"]);
            choose_engine(&engines)
        };
        assert_eq!(chosen(Some(Ok(Way::Lsm))), Some("sleep"));
        assert_eq!(chosen(Some(Err(no()))), Some("spin"));
        // Errors are no delays.
        let mut only_errors = engines(&hooks, Some(Err(no())));
        only_errors[1].reasons = no();
        assert!(only_errors[2].reasons.is_empty());
        assert_eq!(choose_engine(&only_errors), None);
    }

    #[test]
    fn without_a_kernel_sleep_does_not_work_either() {
        let engines = engines(&every_hook(&no()), None);
        assert!(engines.iter().all(|state| !state.reasons.is_empty()));
        assert_eq!(choose_engine(&engines), None);
    }
}
