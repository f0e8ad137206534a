//! What works on this host and what does not: found by loading and attaching
//! each hook and taking it back, explained from the facts of the host.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use injector_ebpf::{
    Hook, Mode, QuantileTable, Rule, SEND_FUNCTIONS, SendFunction, SendRecord, Target, Verdict,
};
use nix::errno::Errno;

use super::{
    HookChoice, Kernel,
    btf::Btf,
    hooks::{self, HookError},
    host::{Host, MINIMUM_KERNEL},
};
use crate::stream::Events;

/// The hooks that are tried, in the order in which they are shown.
const HOOKS: [Hook; 5] = [
    Hook::Fentry,
    Hook::Kprobe,
    Hook::Tracepoint,
    Hook::SockSendLength,
    Hook::Lsm,
];

/// One thing that keeps something from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What is in the way.
    pub why: String,
    /// What would change that, when it is known.
    pub remedy: Option<String>,
}

impl Reason {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn without_remedy(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: None,
        }
    }
}

/// How a hook was refused when it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The system's error number, if it came to a system call.
    pub errno: Option<i32>,
    /// All that is known, on one line.
    pub said: String,
}

impl From<&HookError> for Refusal {
    fn from(error: &HookError) -> Self {
        Self {
            errno: error.errno(),
            said: error.to_string(),
        }
    }
}

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
    /// Tries everything. Without a kernel, the error is why there is none.
    pub fn new(host: Host, kernel: Result<&mut Kernel, &anyhow::Error>) -> Self {
        let unfit = unfit(&host);
        let (hooks, processes) = match kernel {
            _ if !unfit.is_empty() => (every_hook(&unfit), unfit),
            Err(error) => {
                let reasons = [Reason::without_remedy(format!("{error:#}"))];
                (every_hook(&reasons), reasons.into())
            }
            Ok(kernel) => attempt(&host, kernel),
        };
        Self {
            chosen: choose(&hooks),
            engines: engines(&hooks),
            functions: functions(),
            host,
            hooks,
            processes,
        }
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

fn attempt(host: &Host, kernel: &mut Kernel) -> (Vec<HookState>, Vec<Reason>) {
    let mut states = Vec::new();
    for hook in HOOKS {
        let refusal = match kernel.attach(hook) {
            Ok(()) => {
                kernel.detach(hook);
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
    (states, processes)
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

/// Why nothing at all can work on this host.
fn unfit(host: &Host) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if host.version < MINIMUM_KERNEL {
        let (major, minor) = MINIMUM_KERNEL;
        reasons.push(Reason::new(
            format!("Linux {} is too old: it has no bpf_loop", host.release),
            format!("boot Linux {major}.{minor} or later"),
        ));
    }
    if !host.has_btf {
        reasons.push(Reason::new(
            "the kernel was built without CONFIG_DEBUG_INFO_BTF",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ));
    }
    if !host.missing_capabilities.is_empty() {
        reasons.push(Reason::new(
            format!(
                "missing capability {}",
                host.missing_capabilities.join(", ")
            ),
            "run as root: sudo injector doctor",
        ));
    }
    reasons
}

/// Why `hook` does not work, given how the kernel refused it; with none, it was
/// attached and taken back.
pub fn reasons(host: &Host, hook: Hook, refusal: Option<&Refusal>) -> Vec<Reason> {
    let refused = refusal.map(|refusal| match hook {
        Hook::Kprobe if !host.has_kprobes => Reason::new(
            "the kernel was built without CONFIG_KPROBES or CONFIG_KPROBE_EVENTS",
            "boot a kernel with CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y",
        ),
        Hook::Fentry | Hook::Lsm if is_denied(refusal) && host.is_locked_down() => {
            let mode = host.lockdown.as_deref().unwrap_or_default();
            Reason::new(
                format!("kernel lockdown={mode} keeps BPF trampolines out (EPERM)"),
                LIFT_LOCKDOWN,
            )
        }
        Hook::Lsm if refusal.errno.is_none() => Reason::new(
            "the kernel was built without CONFIG_BPF_LSM",
            "boot a kernel with CONFIG_BPF_LSM=y and `bpf` in its LSM list",
        ),
        Hook::SockSendLength if host.version < (6, 4) => Reason::new(
            "the tracepoint is there since Linux 6.4",
            "boot Linux 6.4 or later",
        ),
        Hook::Tracepoint if refusal.errno == Some(Errno::ENOENT as i32) => Reason::new(
            "the kernel has no tracepoints of system calls, or tracefs cannot be mounted",
            "boot a kernel with CONFIG_FTRACE_SYSCALLS=y",
        ),
        _ => by_errno(host, refusal),
    });
    let mut reasons = Vec::from_iter(refused);
    if hook == Hook::Lsm {
        // Without it the hook attaches all the same, and is never called.
        reasons.extend(lsm_list(host));
    }
    reasons
}

const LIFT_LOCKDOWN: &str =
    "boot without `lockdown=` on the kernel command line and with Secure Boot off";

fn is_denied(refusal: &Refusal) -> bool {
    let denied = [Errno::EPERM as i32, Errno::EACCES as i32];
    refusal.errno.is_some_and(|errno| denied.contains(&errno))
}

/// What holds for any hook.
fn by_errno(host: &Host, refusal: &Refusal) -> Reason {
    let mode = host.lockdown.as_deref();
    if mode == Some("confidentiality") {
        return Reason::new(
            format!(
                "kernel lockdown=confidentiality lets no BPF program read kernel memory ({})",
                refusal.said
            ),
            LIFT_LOCKDOWN,
        );
    }
    if is_denied(refusal) && host.is_locked_down() {
        let mode = mode.unwrap_or_default();
        return Reason::new(
            format!("{} (kernel lockdown={mode} may be why)", refusal.said),
            LIFT_LOCKDOWN,
        );
    }
    Reason::without_remedy(&refusal.said)
}

fn lsm_list(host: &Host) -> Option<Reason> {
    if host.lsms.is_none() {
        return Some(Reason::new(
            "whether `bpf` is in the LSM list is not known: securityfs is not mounted",
            "mount -t securityfs securityfs /sys/kernel/security",
        ));
    }
    let list = host.lsms_without_bpf()?;
    Some(Reason::new(
        format!("`bpf` is not in the LSM list ({list})"),
        format!("add `lsm={list},bpf` to the kernel command line, and boot"),
    ))
}

/// Rounds of a measurement. The second smallest and second largest of nine
/// differences hold their median with a chance of 96 %, whatever their law.
pub const ROUNDS: usize = 9;
/// How long one round's sends should take.
const ROUND: Duration = Duration::from_millis(60);
/// Sends of one round, at least and at most.
const SENDS: (u64, u64) = (500, 20_000);
/// Sends from which the length of a round is estimated.
const TRIAL_SENDS: u64 = 2_000;
/// Sends that the spin engine delays.
const SPIN_SENDS: u64 = 200;
/// Longer than any round; it goes with the process in any case.
const LEASE: Duration = Duration::from_secs(30);
/// Slot of the rule table.
const RULE: u32 = 0;
/// Records taken from the ring at once.
const BATCH: usize = 1 << 16;

/// What the measured client meets.
pub struct Bench<'a> {
    /// A rule that only observes.
    pub observing: Rule,
    /// A rule that delays every send, with its table.
    pub delaying: (Rule, &'a QuantileTable),
    /// The delay that it asks for.
    pub asked: Duration,
}

/// A difference in nanoseconds per send, and the interval that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// The whole interval is above zero.
    Measured {
        /// Median.
        ns: u64,
        /// Lower end.
        low_ns: u64,
        /// Upper end.
        high_ns: u64,
    },
    /// The interval holds zero, or the noise made the hook look like a gain:
    /// the price is less than this.
    BelowNoise {
        /// The end that is further from zero.
        noise_ns: u64,
    },
}

/// What a send costs more with a hook.
#[derive(Clone, Copy, Debug)]
pub struct HookPrice {
    /// The hook.
    pub hook: Hook,
    /// For a process that is no target.
    pub bystander: Price,
    /// For a target whose sends are only observed.
    pub target: Price,
}

/// Delays that the spin engine delivered.
#[derive(Clone, Copy, Debug)]
pub struct SpinAccuracy {
    /// Where.
    pub hook: Hook,
    /// What was asked for.
    pub asked_ns: u64,
    /// Delayed sends.
    pub count: u64,
    /// Median of what was delivered.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

/// What was measured on this host.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Sends of each round.
    pub sends: u64,
    /// A send without a hook: median of all rounds.
    pub baseline_ns: u64,
    /// Each hook.
    pub hooks: Vec<HookPrice>,
    /// The engine, if a delay was delivered.
    pub spin: Option<SpinAccuracy>,
}

/// Measures each of `hooks` with a client of our own; `round` hears how far it
/// is. Baseline and hook alternate, so that what the host does meanwhile meets
/// both alike.
pub fn measure(
    kernel: &mut Kernel,
    hooks: &[Hook],
    bench: &Bench,
    mut round: impl FnMut(usize, u64),
) -> Result<Measured> {
    let mut records = Events::new(kernel.take_sends()?);
    kernel.set_rule(RULE, &bench.observing, None)?;
    kernel.set_control(|control| control.mode = Mode::Shadow as u64)?;
    let trial = Client::start(TRIAL_SENDS)?.send()?;
    let sends = (ROUND.as_nanos() as u64 / trial.max(1)).clamp(SENDS.0, SENDS.1);

    let mut baselines = Vec::new();
    let mut bystander = vec![Vec::new(); hooks.len()];
    let mut target = vec![Vec::new(); hooks.len()];
    for number in 0..ROUNDS {
        round(number + 1, sends);
        for (index, &hook) in hooks.iter().enumerate() {
            let before = (number % 2 == 0)
                .then(|| Client::start(sends)?.send())
                .transpose()?;
            kernel.attach(hook)?;
            let beside = Client::start(sends).and_then(Client::send);
            let observed = send_as_target(kernel, sends);
            kernel.detach(hook);
            records.drain(BATCH, |_| Ok(()))?;
            let baseline = match before {
                Some(baseline) => baseline,
                None => Client::start(sends)?.send()?,
            };
            baselines.push(baseline);
            bystander[index].push(beside?.cast_signed() - baseline.cast_signed());
            target[index].push(observed?.cast_signed() - baseline.cast_signed());
        }
    }
    let prices = hooks.iter().zip(bystander).zip(target);
    let prices = prices.map(|((&hook, bystander), target)| HookPrice {
        hook,
        bystander: price(bystander),
        target: price(target),
    });
    baselines.sort_unstable();
    Ok(Measured {
        sends,
        baseline_ns: baselines[baselines.len() / 2],
        hooks: prices.collect(),
        spin: match hooks.first() {
            Some(&hook) => spin(kernel, hook, bench, &mut records)?,
            None => None,
        },
    })
}

fn spin(
    kernel: &mut Kernel,
    hook: Hook,
    bench: &Bench,
    records: &mut Events<SendRecord>,
) -> Result<Option<SpinAccuracy>> {
    let asked_ns = bench.asked.as_nanos() as u64;
    let (rule, table) = &bench.delaying;
    kernel.set_rule(RULE, rule, Some(table))?;
    kernel.set_control(|control| {
        control.mode = Mode::Enforce as u64;
        control.max_total_delay_ns = u64::MAX;
        control.max_delay_ns_per_second = u64::MAX;
        control.max_acts_per_second = u64::MAX;
        control.max_spin_ns = 2 * asked_ns;
    })?;
    kernel.attach(hook)?;
    let sent = send_as_target(kernel, SPIN_SENDS);
    kernel.detach(hook);
    sent?;
    let mut delivered = Vec::new();
    records.drain(BATCH, |record| {
        if record.verdict == Verdict::Delivered as u8 {
            delivered.push(record.delivered_ns);
        }
        Ok(())
    })?;
    delivered.sort_unstable();
    let (Some(&p50_ns), Some(&p99_ns), Some(&max_ns)) = (
        delivered.get(delivered.len() / 2),
        delivered.get(delivered.len() * 99 / 100),
        delivered.last(),
    ) else {
        return Ok(None);
    };
    Ok(Some(SpinAccuracy {
        hook,
        asked_ns,
        count: delivered.len() as u64,
        p50_ns,
        p99_ns,
        max_ns,
    }))
}

fn send_as_target(kernel: &mut Kernel, sends: u64) -> Result<u64> {
    let client = Client::start(sends)?;
    let pid = client.child.id();
    let target = Target {
        rule: RULE,
        flags: 0,
    };
    kernel.add_target(pid, target)?;
    kernel.renew_lease(LEASE)?;
    let sent = client.send();
    kernel.remove_target(pid);
    kernel.renew_lease(Duration::ZERO)?;
    sent
}

/// The median of the differences and the interval that holds it.
fn price(mut differences: Vec<i64>) -> Price {
    differences.sort_unstable();
    let last = differences.len() - 1;
    // See [`ROUNDS`].
    let (low, high) = (
        differences[1.min(last)],
        differences[last.saturating_sub(1)],
    );
    if low <= 0 {
        return Price::BelowNoise {
            noise_ns: low.unsigned_abs().max(high.unsigned_abs()),
        };
    }
    Price::Measured {
        ns: differences[last / 2].unsigned_abs(),
        low_ns: low.unsigned_abs(),
        high_ns: high.unsigned_abs(),
    }
}

/// A child process that sends to itself.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    sends: u64,
}

impl Client {
    /// Starts it and waits until it is ready to send.
    fn start(sends: u64) -> Result<Self> {
        // The program that runs, even if its file has been replaced.
        let mut child = Command::new("/proc/self/exe")
            .args(["workload", "--sends", &sends.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the client that is measured")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let mut client = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            sends,
        };
        let ready = client.line()?;
        ensure!(
            ready == "ready",
            "the client that is measured does not start ({ready:?})"
        );
        Ok(client)
    }

    /// Lets it send; nanoseconds per send.
    fn send(mut self) -> Result<u64> {
        writeln!(self.stdin).context("cannot talk to the client that is measured")?;
        let line = self.line()?;
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(sends)), Some(Ok(busy_ns))) if sends == self.sends => {
                Ok((busy_ns + sends / 2) / sends.max(1))
            }
            _ => anyhow::bail!("the client that is measured ended early ({line:?})"),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .context("cannot read from the client that is measured")?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended, or something failed and nobody needs it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            release: "6.12.1".into(),
            version: (6, 12),
            lockdown: Some("none".into()),
            lsms: Some(vec!["capability".into(), "bpf".into()]),
            has_kprobes: true,
            has_btf: true,
            missing_capabilities: vec![],
        }
    }

    fn refused(errno: Option<Errno>) -> Refusal {
        Refusal {
            errno: errno.map(|errno| errno as i32),
            said: "cannot load fentry_tcp_sendmsg: some reason".into(),
        }
    }

    fn remedies(reasons: &[Reason]) -> String {
        let remedies = reasons.iter().filter_map(|reason| reason.remedy.as_deref());
        remedies.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_was_attached_needs_no_reason() {
        for hook in HOOKS {
            assert_eq!(reasons(&host(), hook, None), []);
        }
        assert_eq!(unfit(&host()), []);
    }

    #[test]
    fn lockdown_keeps_trampolines_out() {
        let locked = Host {
            lockdown: Some("integrity".into()),
            ..host()
        };
        let refusal = refused(Some(Errno::EPERM));
        for hook in [Hook::Fentry, Hook::Lsm] {
            let reasons = reasons(&locked, hook, Some(&refusal));
            assert_eq!(reasons.len(), 1);
            assert!(reasons[0].why.contains("lockdown=integrity"), "{reasons:?}");
            assert!(remedies(&reasons).contains("without `lockdown=`"));
        }
        // Another error is not blamed on it, nor EPERM without lockdown.
        for (host, errno) in [(&locked, Errno::EINVAL), (&host(), Errno::EPERM)] {
            let refusal = refused(Some(errno));
            let reasons = reasons(host, Hook::Fentry, Some(&refusal));
            assert_eq!(reasons, [Reason::without_remedy(&refusal.said)]);
        }
    }

    #[test]
    fn confidentiality_is_named_whatever_the_error() {
        let locked = Host {
            lockdown: Some("confidentiality".into()),
            ..host()
        };
        let refusal = refused(Some(Errno::EINVAL));
        for hook in [Hook::Kprobe, Hook::Tracepoint, Hook::Fentry] {
            let reasons = reasons(&locked, hook, Some(&refusal));
            assert!(reasons[0].why.contains("lockdown=confidentiality"));
        }
    }

    #[test]
    fn missing_lsm_is_named_even_when_the_hook_attached() {
        let without = Host {
            lsms: Some(vec!["capability".into(), "yama".into()]),
            ..host()
        };
        let attached = reasons(&without, Hook::Lsm, None);
        assert!(attached[0].why.contains("(capability,yama)"));
        assert!(remedies(&attached).contains("`lsm=capability,yama,bpf`"));
        assert_eq!(reasons(&without, Hook::Fentry, None), []);

        let locked = Host {
            lockdown: Some("integrity".into()),
            ..without
        };
        let refusal = refused(Some(Errno::EPERM));
        assert_eq!(reasons(&locked, Hook::Lsm, Some(&refusal)).len(), 2);

        let unknown = Host {
            lsms: None,
            ..host()
        };
        assert!(remedies(&reasons(&unknown, Hook::Lsm, None)).contains("securityfs"));

        let not_built = reasons(&host(), Hook::Lsm, Some(&refused(None)));
        assert!(not_built[0].why.contains("CONFIG_BPF_LSM"));
    }

    #[test]
    fn missing_kernel_options_are_named() {
        let without = Host {
            has_kprobes: false,
            ..host()
        };
        let refusal = refused(Some(Errno::ENOENT));
        for (hook, option) in [
            (Hook::Kprobe, "CONFIG_KPROBES=y"),
            (Hook::Tracepoint, "CONFIG_FTRACE_SYSCALLS=y"),
        ] {
            let reasons = reasons(&without, hook, Some(&refusal));
            assert!(remedies(&reasons).contains(option), "{reasons:?}");
        }
        let old = Host {
            version: (6, 1),
            ..host()
        };
        let reasons = reasons(&old, Hook::SockSendLength, Some(&refused(None)));
        assert!(remedies(&reasons).contains("6.4"));
    }

    #[test]
    fn unfit_hosts_have_all_their_reasons() {
        let unfit = unfit(&Host {
            release: "5.10.0".into(),
            version: (5, 10),
            has_btf: false,
            missing_capabilities: vec!["CAP_BPF", "CAP_PERFMON"],
            ..host()
        });
        let remedies = remedies(&unfit);
        for part in ["5.17", "CONFIG_DEBUG_INFO_BTF=y", "sudo"] {
            assert!(remedies.contains(part), "{part}: {remedies}");
        }
        assert!(unfit[2].why.contains("CAP_BPF, CAP_PERFMON"));
    }

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

    #[test]
    fn no_number_is_made_out_of_noise() {
        let all_above = vec![52, 40, 45, 48, 50, 41, 300, 47, -9];
        assert_eq!(
            price(all_above),
            Price::Measured {
                ns: 47,
                low_ns: 40,
                high_ns: 52
            }
        );
        let around_zero = vec![3, -2, 5, -7, 0, 4, 9, -1, 2];
        assert_eq!(price(around_zero), Price::BelowNoise { noise_ns: 5 });
        // A hook cannot make sends faster.
        let below_zero = vec![-30; ROUNDS];
        assert_eq!(price(below_zero), Price::BelowNoise { noise_ns: 30 });
    }
}
