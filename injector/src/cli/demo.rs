//! A ten-second gray run against the built-in client, explained; or, with a Go
//! program, one that finds what is known of it.

mod shop;

use std::time::Duration;

use anyhow::{Context as _, Result};
use injector_ebpf::{Mode, Operation};

use super::{args::Demo, job};
use crate::{
    daemon::{Job, Verbosity},
    kernel::{
        client::Client, engine::EngineChoice, host::Host, lock::ActingLock, mounts::HostMounts,
    },
    plan::{Fault, Filter, Limits, Over, Plan, Rule, When},
    target::Selector,
};

/// The run that the project is made for, in small.
const DELAY: &str = "0..1200ms";
const PROBABILITY: &str = "15%";
const THRESHOLD: Duration = Duration::from_millis(800);
const MAX_SPIN: Duration = Duration::from_millis(10);
/// About 200 sends a second.
const GAP: Duration = Duration::from_millis(4);

/// Runs the demonstration.
pub fn run(flags: &Demo) -> Result<u8> {
    if let Some(program) = &flags.program {
        return shop::run(flags, program);
    }
    Host::read().check()?;
    let _lock = ActingLock::take()?;
    let _mounts = HostMounts::enter().context("cannot mount tracefs for this process")?;
    let mut client = Client::start(0, GAP)?;
    client.go()?;
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
        "injector: demo: a client sends 64 bytes over TCP on loopback about every {}; \
         {PROBABILITY} of its sends are asked to wait {DELAY}, sends over 800ms are flagged.\n\
         The same on a program of yours:\n\n    \
         injector --pid PID --probability {PROBABILITY} --delay {DELAY} --threshold 800ms\n",
        crate::plan::duration::compact(GAP)
    );
    let job = Job {
        plan,
        selector: Selector {
            pids: vec![client.pid()],
            ..Selector::default()
        },
        command: None,
        hook: flags.hook,
        engine: EngineChoice::Auto,
        max_targets: 16,
        lease: Duration::from_secs(3),
        control: None,
        tui: flags.tui,
        record: None,
        maps: None,
        format: flags.output,
        verbosity: Verbosity {
            all: false,
            quiet: false,
            explain: true,
        },
    };
    job::execute(job)
}
