//! The costs of hooks under another kernel, in an emulated machine.

use std::{env, io, time::Duration};

use anyhow::{Context as _, Result};

use super::{Bench, cost, report::Section};
use crate::vm::{self, Outcome};

/// Long enough for three hooks on a machine with other work to do.
const TIMEOUT: Duration = Duration::from_mins(25);

/// Each run there: a round trip takes some 20 times longer than on the host.
const LENGTH: Duration = Duration::from_millis(600);

/// Measures under the kernel of `series`.
pub fn measure(bench: &Bench, series: &str) -> Result<Section> {
    let path = |path: &std::path::Path| {
        let path = path.to_str().context("a path is not UTF-8")?;
        Ok::<_, anyhow::Error>(path.to_owned())
    };
    let argv = [
        path(&env::current_exe().context("cannot tell who we are")?)?,
        "bench".to_owned(),
        "--inside".to_owned(),
        path(&bench.injector)?,
        path(bench.programs.directory())?,
    ];
    let options = vm::Options {
        timeout: TIMEOUT,
        ..vm::Options::default()
    };
    eprintln!("bench: starting a virtual machine with Linux {series}");
    let mut json = Vec::new();
    let report = vm::run(series, &argv, &options, &mut json, &mut io::stderr())?;
    eprintln!("{report}");
    if report.outcome != Outcome::Exited(0) {
        let mut section = Section::new(&title(), "", "");
        section.left_out.push(format!("{report}"));
        return Ok(section);
    }
    serde_json::from_slice(&json).context("the guest wrote no result")
}

/// Measures in the machine and writes the result for [`measure`].
pub fn inside(bench: &Bench) -> Result<()> {
    let mut section = cost::measure(bench, &title(), LENGTH)?;
    for goal in &mut section.goals {
        goal.measured.push_str(", emulated");
    }
    println!("{}", serde_json::to_string(&section)?);
    Ok(())
}

fn title() -> String {
    "What a hook costs, in a virtual machine (QEMU emulates its CPU: only indicative)".to_owned()
}
