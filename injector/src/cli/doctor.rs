//! `injector doctor`: what this host can do, and what it costs.

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdout},
    time::Duration,
};

use anyhow::{Context as _, Result};
use injector_ebpf::Operation;

use super::{args::Doctor, failure};
use crate::{
    daemon::Format,
    kernel::{
        Kernel,
        doctor::{Bench, Diagnosis, Effort, Rules},
        host::Host,
        mounts::HostMounts,
    },
    output,
    plan::{Delay, Fault, Filter, Over, Probability, Rule, When, compile, quantile},
};

/// The delay that the engines are measured with.
const DELAY: Duration = Duration::from_millis(1);
/// Only the client that is measured becomes a target.
const MAX_TARGETS: u32 = 1;
/// Exit status when the kernel cannot do it.
pub const UNSUPPORTED: u8 = 3;

/// Prints what works; 0 when at least one hook for sends does.
pub fn run(flags: &Doctor) -> Result<u8> {
    // Without privileges there is less to see, and that is said.
    let _mounts = HostMounts::enter();
    let host = Host::read();
    let fit = host.check();
    let mut kernel = match &fit {
        Ok(()) => Kernel::load(MAX_TARGETS),
        Err(error) => Err(anyhow::Error::msg(error.to_string())),
    };
    let (diagnosis, measured) = match &mut kernel {
        Ok(kernel) => {
            let effort = if flags.measure {
                Effort::THOROUGH
            } else {
                Effort::QUICK
            };
            let examined = Bench::new(kernel, rules()?, effort)
                .and_then(|mut bench| Diagnosis::examine(host, kernel, &mut bench, progress));
            if stderr().is_terminal() {
                eprint!("\r\x1b[K");
            }
            examined.context("cannot measure")?
        }
        Err(error) => (Diagnosis::without_kernel(host, error), None),
    };

    let mut out = stdout().lock();
    match flags.output {
        Format::Table => output::doctor::table(&mut out, &diagnosis, measured.as_ref())?,
        Format::Json => output::doctor::json(&mut out, &diagnosis, measured.as_ref())?,
    }
    out.flush()?;
    Ok(match fit {
        Err(error) => failure::exit_code(&error.into()),
        Ok(()) if diagnosis.chosen.is_none() => UNSUPPORTED,
        Ok(()) => 0,
    })
}

/// One rule that changes nothing, and the same with a delay.
fn rules() -> Result<Rules> {
    let observing = Rule {
        operations: vec![Operation::Send],
        filter: Filter::default(),
        when: When::ALWAYS,
        probability: Probability::ALWAYS,
        fault: Fault::default(),
        threshold: None,
        over: Over::Flag,
        max_delay: DELAY,
        blocking_only: false,
    };
    let delay = Delay::Fixed(DELAY);
    let table = quantile::table(&delay, DELAY, |path| std::fs::read_to_string(path))?;
    let delaying = Rule {
        fault: Fault {
            delay: Some(delay),
            error: None,
        },
        ..observing.clone()
    };
    Ok(Rules {
        observing: compile::compile(&observing, 0, 0),
        delaying: compile::compile(&delaying, 0, 0),
        table,
        asked: DELAY,
    })
}

/// In place on a terminal, one line elsewhere.
fn progress(round: usize, sends: u64) {
    let rounds = Effort::THOROUGH.rounds;
    if stderr().is_terminal() {
        eprint!("\rinjector: measuring, round {round} of {rounds}");
    } else if round == 1 {
        eprintln!("injector: measuring, {rounds} rounds of {sends} sends for each hook");
    }
}
