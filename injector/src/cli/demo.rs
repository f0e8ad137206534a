//! A ten-second gray run against the built-in client, explained.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use injector_ebpf::{Mode, Operation};

use super::{args::Demo, job};
use crate::{
    daemon::{Job, Verbosity},
    kernel::engine::EngineChoice,
    kernel::{host::Host, lock::ActingLock, mounts::HostMounts},
    plan::{Fault, Filter, Limits, Over, Plan, Rule, When},
    target::Selector,
};

/// The run that the project is made for, in small.
const DELAY: &str = "0..1200ms";
const PROBABILITY: &str = "15%";
const THRESHOLD: Duration = Duration::from_millis(800);
const MAX_SPIN: Duration = Duration::from_millis(10);
/// About 200 sends a second.
const GAP: &str = "4ms";

/// Runs the demonstration.
pub fn run(flags: &Demo) -> Result<u8> {
    Host::read().check()?;
    let _lock = ActingLock::take()?;
    let _mounts = HostMounts::enter().context("cannot mount tracefs for this process")?;
    let client = Client::start()?;
    let plan = Plan {
        rules: vec![Rule {
            operations: vec![Operation::Send],
            filter: Filter::default(),
            when: When::ALWAYS,
            probability: PROBABILITY.parse()?,
            fault: Fault {
                delay: Some(DELAY.parse()?),
                error: None,
            },
            threshold: Some(THRESHOLD),
            over: Over::Flag,
            max_delay: Duration::from_secs(2),
            blocking_only: false,
        }],
        mode: Mode::Enforce,
        limits: Limits {
            max_total_delay: None,
            max_delay_per_second: None,
            max_acts_per_second: None,
            max_spin: MAX_SPIN,
        },
        duration: Some(flags.duration),
        seed: 1,
    };
    plan.validate()?;
    eprintln!(
        "injector: demo: a client sends 64 bytes over TCP on loopback about every {GAP}; \
         {PROBABILITY} of its sends are asked to wait {DELAY}, sends over 800ms are flagged.\n\
         The same on a program of yours:\n\n    \
         injector --pid PID --probability {PROBABILITY} --delay {DELAY} --threshold 800ms\n"
    );
    let job = Job {
        plan,
        selector: Selector {
            pids: vec![client.0.id()],
            ..Selector::default()
        },
        command: None,
        hook: flags.hook,
        engine: EngineChoice::Auto,
        max_targets: 16,
        lease: Duration::from_secs(3),
        control: None,
        format: flags.output,
        verbosity: Verbosity {
            all: false,
            quiet: false,
            explain: true,
        },
    };
    job::execute(job)
}

/// The built-in client; it ends with its stdin.
struct Client(Child);

impl Client {
    /// Starts it and lets it send.
    fn start() -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the injector program")?;
        let mut child = Command::new(program)
            .args(["workload", "--gap", GAP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the built-in client")?;
        let mut line = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut client = Self(child);
        ensure!(line.trim() == "ready", "the built-in client did not start");
        if let Some(stdin) = &mut client.0.stdin {
            stdin.write_all(b"\n")?;
        }
        Ok(client)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
