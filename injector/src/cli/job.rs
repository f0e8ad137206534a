//! A run: from flags to a [`Job`].

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use injector_ebpf::Mode;

use super::args::Run;
use crate::{
    clock,
    daemon::{Job, Verbosity, command::Command, run as run_job},
    kernel::{engine::EngineChoice, host::Host, lock::ActingLock, mounts::HostMounts},
    plan::{Fault, Filter, Limits, Plan, Rule},
    target::{
        Selector, Tracker, process::Process, protection::check_breadth, selector::cgroup_path,
    },
};

/// How long a run that acts lasts when nobody says.
const DEFAULT_DURATION: Duration = Duration::from_mins(1);
/// Ceiling of one delay when nobody says: the sleep engine delivers it, the
/// spin engine has a lower one of its own.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
const LONGEST_SPIN: Duration = Duration::from_secs(2);
/// A lease must outlive a few scheduling hiccups.
const SHORTEST_LEASE: Duration = Duration::from_millis(300);

/// Runs what the flags say.
pub fn run(flags: Run) -> Result<u8> {
    let plan = plan(&flags)?;
    let mut selector = selector(&flags)?;
    Host::read().check()?;
    ensure!(
        flags.lease >= SHORTEST_LEASE,
        "a --lease under {} would expire whenever injector has to wait for a CPU",
        crate::plan::duration::compact(SHORTEST_LEASE)
    );
    let _lock = if plan.acts() {
        Some(ActingLock::take()?)
    } else {
        None
    };
    let mounts = HostMounts::enter().context("cannot mount tracefs for this process")?;
    let command = if flags.command.is_empty() {
        check_selector(&selector, flags.allow_broad)?;
        None
    } else {
        let needs_parent = flags.engine != EngineChoice::Spin && !Host::read().finds_tasks();
        let command = Command::prepare(&flags.command, &mounts, needs_parent)?;
        selector = Selector {
            pids: vec![command.pid()],
            children: true,
            ..Selector::default()
        };
        Some(command)
    };
    let maps = match (&flags.pid[..], flags.maps) {
        ([pid], true) => Some(super::maps::job(
            *pid,
            flags.tracing,
            flags.output,
            flags.tui,
        )?),
        (_, true) => bail!("--maps traces one process: give it one --pid"),
        (_, false) => {
            ensure!(
                !flags.tracing.is_given(),
                "flags of --maps do nothing without it: add --maps"
            );
            None
        }
    };
    let job = Job {
        plan,
        selector,
        command,
        hook: flags.hook,
        engine: flags.engine,
        max_targets: flags.max_targets,
        lease: flags.lease,
        control: flags.control,
        tui: flags.tui,
        record: flags.record,
        maps,
        format: flags.output,
        verbosity: Verbosity {
            all: flags.all,
            quiet: flags.quiet,
            explain: false,
        },
    };
    execute(job)
}

/// Runs a job on a runtime of its own, in this thread: it is the one that has
/// the mounts.
pub fn execute(job: Job) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let ending = runtime.block_on(run_job(job))?;
    Ok(ending.exit_code())
}

fn plan(flags: &Run) -> Result<Plan> {
    let rule = Rule {
        operations: flags.on.clone(),
        filter: Filter {
            protocols: flags.proto.iter().copied().collect(),
            to: flags.to,
            port: flags.port,
            min_bytes: flags.min_bytes,
        },
        when: flags.when,
        probability: flags.probability,
        fault: Fault {
            delay: flags.delay.clone(),
            error: flags.error,
        },
        threshold: flags.threshold,
        over: flags.on_timeout,
        max_delay: flags.max_delay.unwrap_or(match flags.engine {
            EngineChoice::Spin => LONGEST_SPIN,
            EngineChoice::Auto | EngineChoice::Sleep => LONGEST_SLEEP,
        }),
        blocking_only: flags.blocking_only,
    };
    let mut plan = Plan {
        rules: vec![rule],
        mode: if flags.shadow {
            Mode::Shadow
        } else {
            Mode::Enforce
        },
        limits: Limits {
            max_total_delay: flags.max_total_delay,
            max_delay_per_second: Some(flags.max_delay_per_second),
            max_acts_per_second: Some(flags.max_sends_per_second),
            max_spin: flags.max_spin,
        },
        duration: flags.duration.filter(|duration| !duration.is_zero()),
        // Any value will do, as long as it is shown and can be given again.
        seed: flags
            .seed
            .unwrap_or_else(|| clock::monotonic_ns() % 1_000_000),
    };
    if plan.acts() && flags.duration.is_none() {
        plan.duration = Some(DEFAULT_DURATION);
    }
    plan.validate()?;
    Ok(plan)
}

fn selector(flags: &Run) -> Result<Selector> {
    let cgroup = match &flags.cgroup {
        Some(path) => {
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            Some(cgroup_path(path, &mounts))
        }
        None => None,
    };
    let exe = match &flags.exe {
        Some(path) => Some(
            path.canonicalize()
                .with_context(|| format!("--exe: cannot find the program {}", path.display()))?,
        ),
        None => None,
    };
    let selector = Selector {
        pids: flags.pid.clone(),
        children: flags.children,
        comm: flags.comm.clone(),
        cgroup,
        env: flags.env.clone(),
        exe,
    };
    if selector.is_empty() && flags.command.is_empty() {
        bail!(
            "no target: say --pid, --comm, --cgroup, --env or --exe, or a command after --; \
             `injector --help` has examples"
        );
    }
    Ok(selector)
}

/// Processes that were named must be there and may be targets; a description
/// must not match half the host.
fn check_selector(selector: &Selector, allow_broad: bool) -> Result<()> {
    let tracker = Tracker::new(selector.clone(), 0);
    for &pid in &selector.pids {
        let process = Process { pid };
        if !process.exists() {
            bail!("there is no process {pid} (threads cannot be targets by themselves)");
        }
        if let Err(reason) = tracker.protected(pid) {
            bail!("process {pid} cannot be a target: {reason}");
        }
    }
    if !allow_broad {
        let all = Process::all().context("cannot list processes")?;
        let user = all
            .iter()
            .filter(|process| !process.is_kernel_thread())
            .count();
        check_breadth(tracker.preview(&all).len(), user)?;
    }
    Ok(())
}
