//! What works on this host and what does not: found by loading and attaching
//! each hook and taking it back, explained from the facts of the host.

mod price;
mod reasons;

use injector_ebpf::{Hook, SEND_FUNCTIONS, SendFunction};

#[cfg(test)]
pub use self::price::SpinAccuracy;
use self::reasons::{Refusal, by_errno, reasons, unfit};
pub use self::{
    price::{Bench, Effort, HookPrice, Measured, Price, Quick, measure},
    reasons::Reason,
};
use super::{HookChoice, Kernel, btf::Btf, hooks, host::Host};

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
    /// What follows from the hooks.
    pub engines: Vec<EngineState>,
    /// The hook that a run without `--hook` takes.
    pub chosen: Option<Hook>,
    /// The kernel's send functions.
    pub functions: Vec<FunctionState>,
}

impl Diagnosis {
    /// Tries everything, and measures meanwhile. Without a kernel, the error is why
    /// there is none.
    pub fn new(
        host: Host,
        kernel: Result<&mut Kernel, &anyhow::Error>,
        quick: Option<&mut Quick>,
    ) -> anyhow::Result<Self> {
        let unfit = unfit(&host);
        let (hooks, processes) = match kernel {
            _ if !unfit.is_empty() => (every_hook(&unfit), unfit),
            Err(error) => {
                let reasons = [Reason::without_remedy(format!("{error:#}"))];
                (every_hook(&reasons), reasons.into())
            }
            Ok(kernel) => attempt(&host, kernel, quick)?,
        };
        Ok(Self {
            chosen: choose(&hooks),
            engines: engines(&hooks),
            functions: functions(),
            host,
            hooks,
            processes,
        })
    }

    /// Hooks that see sends and work, best first.
    pub fn working(&self) -> Vec<Hook> {
        let candidates = HookChoice::Auto.candidates().iter().copied();
        candidates
            .filter(|hook| works(&self.hooks, *hook))
            .collect()
    }
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
    mut quick: Option<&mut Quick>,
) -> anyhow::Result<(Vec<HookState>, Vec<Reason>)> {
    let mut states = Vec::new();
    for hook in HOOKS {
        let sees_sends = HookChoice::Auto.candidates().contains(&hook);
        let mut quick = quick.as_deref_mut().filter(|_| sees_sends);
        if let Some(quick) = &mut quick {
            quick.before()?;
        }
        let refusal = match kernel.attach(hook) {
            Ok(()) => {
                let hooked = quick.as_mut().map(|quick| quick.attached(kernel));
                kernel.detach(hook);
                if let (Some(quick), Some(hooked)) = (quick, hooked) {
                    quick.after(hook, &hooked?)?;
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
    Ok((states, processes))
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
    let mut candidates = HookChoice::Auto.candidates().iter().copied();
    candidates.find(|hook| works(hooks, *hook))
}

fn engines(hooks: &[HookState]) -> Vec<EngineState> {
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
    vec![
        EngineState {
            name: "spin",
            purpose: "delays a send by burning its CPU (--delay)",
            reasons: any_hook.clone(),
        },
        EngineState {
            name: "error",
            purpose: "fails a send with an errno (--error)",
            reasons: error,
        },
        EngineState {
            name: "signal",
            purpose: "signals the thread of a slow send (--on-timeout)",
            reasons: any_hook,
        },
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

    #[test]
    fn engines_follow_from_hooks() {
        let states = |working: &[Hook]| {
            let mut states = every_hook(&[]);
            for state in &mut states {
                if !working.contains(&state.hook) {
                    state.reasons.push(Reason::without_remedy("no"));
                }
            }
            states
        };
        let available = |working: &[Hook]| {
            let engines = engines(&states(working));
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
}
