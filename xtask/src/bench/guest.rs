//! Parts of the benchmark that run under another kernel, in an emulated machine.

use std::{env, io, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use super::{Bench, Part, cost, netem, report::Section};
use crate::vm::{self, Outcome};

/// Long enough for three hooks on a machine with other work to do.
const TIMEOUT: Duration = Duration::from_mins(25);

/// The emulated CPU is slow and uneven, and the host has other work. Counted in
/// instructions instead of time, that does not matter, and few rounds suffice.
const METHOD: cost::Method = cost::Method {
    title: "What a hook costs, in instructions, in a virtual machine",
    hooks: &[("fentry", "spin"), ("kprobe", "spin"), ("fentry", "sleep")],
    length: Duration::from_millis(60),
    rounds: 3,
    clock: cost::Clock::Instructions,
};

/// Measures a part under the kernel of `series`.
pub fn measure(bench: &Bench, series: &str, part: Part) -> Result<Section> {
    let path = |path: &Path| {
        let path = path.to_str().context("a path is not UTF-8")?;
        Ok::<_, anyhow::Error>(path.to_owned())
    };
    let part_name = part.to_possible_value().context("a hidden part")?;
    let argv = [
        path(&env::current_exe().context("cannot tell who we are")?)?,
        "bench".to_owned(),
        "--only".to_owned(),
        part_name.get_name().to_owned(),
        "--inside".to_owned(),
        path(&bench.injector)?,
        path(bench.programs.directory())?,
    ];
    let options = vm::Options {
        timeout: TIMEOUT,
        count_instructions: part == Part::Guest,
        ..vm::Options::default()
    };
    eprintln!("bench: starting a virtual machine with Linux {series}");
    let mut json = Vec::new();
    let report = vm::run(series, &argv, &options, &mut json, &mut io::stderr())?;
    eprintln!("{report}");
    if report.outcome != Outcome::Exited(0) {
        let title = if part == Part::Netem {
            netem::TITLE
        } else {
            METHOD.title
        };
        let mut section = Section::new(title, "", "");
        section.left_out.push(format!("{report}"));
        return Ok(section);
    }
    serde_json::from_slice(&json).context("the guest wrote no result")
}

/// Measures in the machine and writes the result for [`measure`].
pub fn inside(bench: &Bench, parts: &[Part]) -> Result<()> {
    let section = if parts.contains(&Part::Netem) {
        netem::measure(bench)?
    } else {
        let mut section = cost::measure(bench, &METHOD)?;
        for goal in &mut section.goals {
            goal.measured.push_str(", emulated, in instructions");
        }
        section
    };
    println!("{}", serde_json::to_string(&section)?);
    Ok(())
}
