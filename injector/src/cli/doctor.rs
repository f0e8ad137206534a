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
        doctor::{self, Bench, Diagnosis, Effort, Measured, Quick},
        host::Host,
        mounts::HostMounts,
    },
    output,
    plan::{Delay, Fault, Filter, Over, Probability, Rule, When, compile, quantile},
};

/// The delay that the spin engine is measured with.
const SPIN: Duration = Duration::from_millis(1);
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
    let mut quick = match &mut kernel {
        Ok(kernel) if !flags.measure => {
            Some(Quick::new(kernel, &compile::compile(&observing(), 0, 0))?)
        }
        _ => None,
    };
    let diagnosis = Diagnosis::new(
        host,
        kernel.as_mut().map_err(|error| &*error),
        quick.as_mut(),
    )
    .context("cannot measure")?;
    let measured = match &mut kernel {
        Ok(kernel) if flags.measure && diagnosis.chosen.is_some() => {
            Some(measure(kernel, &diagnosis)?)
        }
        _ => quick.and_then(Quick::finish),
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

/// A rule that changes nothing.
fn observing() -> Rule {
    Rule {
        operations: vec![Operation::Send],
        filter: Filter::default(),
        when: When::ALWAYS,
        probability: Probability::ALWAYS,
        fault: Fault::default(),
        threshold: None,
        over: Over::Flag,
        max_delay: SPIN,
        blocking_only: false,
    }
}

fn measure(kernel: &mut Kernel, diagnosis: &Diagnosis) -> Result<Measured> {
    let observing = observing();
    let delay = Delay::Fixed(SPIN);
    let table = quantile::table(&delay, SPIN, |path| std::fs::read_to_string(path))?;
    let delaying = Rule {
        fault: Fault {
            delay: Some(delay),
            error: None,
        },
        ..observing.clone()
    };
    let bench = Bench {
        observing: compile::compile(&observing, 0, 0),
        delaying: (compile::compile(&delaying, 0, 0), &table),
        asked: SPIN,
    };
    let measured = doctor::measure(kernel, &diagnosis.working(), &bench, progress);
    if stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    measured.context("cannot measure")
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
