//! `cargo xtask bench`: what the injector costs and how exact it is. What is
//! compared is measured in turns within one run, so that the machine's speed and
//! mood meet both sides alike.

mod accuracy;
mod attached;
mod cost;
mod engines;
pub mod explain;
mod go_servers;
mod guest;
mod machine;
mod maps;
mod netem;
mod others;
mod processes;
mod program;
mod report;
mod ring;
mod scale;
mod server;
mod services;
mod startup;
mod statistics;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{build, privilege, setup, vm::command::parse_kernels};
use program::Programs;
use report::Section;

/// What `bench` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these parts
    #[arg(long, value_name = "PART", value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Kernel for the hooks that do not work under this one
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: String,
    /// We are in the virtual machine: measure with these, write JSON
    #[arg(long, hide = true, num_args = 2, value_names = ["INJECTOR", "PROGRAMS"])]
    inside: Option<Vec<PathBuf>>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What hooks cost bystanders and targets, under this kernel
    Cost,
    /// The same in a virtual machine, whose kernel has every hook
    Guest,
    /// How exact delays are, beside strace and bpftrace
    Accuracy,
    /// What the engines cost calls that are not delayed, beside strace
    Engines,
    /// Delays a second and sleepers at once
    Scale,
    /// Real services under load, one send in a hundred delayed
    Services,
    /// Beside `tc netem`, in a virtual machine
    Netem,
    /// Records through the ring buffer
    Ring,
    /// Tracing the maps of a Go program: a hit, the budget, -race, bpftrace
    Maps,
    /// Real servers that are written in Go, saturated, with their maps traced
    GoServers,
    /// Explaining made events, recording them, and reporting the recording
    Explain,
    /// Start-up time
    Startup,
}

/// What is measured, and with what.
struct Bench {
    injector: PathBuf,
    programs: Programs,
}

/// Builds the injector, measures it, and writes Markdown to stdout.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some([injector, programs]) = arguments.inside.as_deref() {
        let bench = Bench {
            injector: injector.clone(),
            programs: Programs::at(programs),
        };
        return guest::inside(&bench, &arguments.only).map(|()| ExitCode::SUCCESS);
    }
    let kernels = parse_kernels(&arguments.kernel)?;
    privilege::require_root("the benchmark loads BPF programs and")?;
    setup::ensure()?;
    let bench = Bench {
        injector: build::injector(true)?,
        programs: Programs::build()?,
    };
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let facts = machine::facts();
    let started = Instant::now();
    let mut sections = Sections::default();
    // The guest goes last: its emulator heats up a machine that is to be quiet.
    if wanted(Part::Startup) {
        sections.keep(startup::measure(&bench));
    }
    if wanted(Part::Ring) {
        sections.keep(ring::measure(&bench));
    }
    if wanted(Part::Explain) {
        sections.keep(explain::measure());
    }
    if wanted(Part::Maps) {
        for section in maps::measure(&bench) {
            sections.keep(section);
        }
    }
    if wanted(Part::GoServers) {
        sections.keep(go_servers::measure(&bench));
    }
    if wanted(Part::Accuracy) {
        sections.keep(accuracy::measure(&bench));
    }
    if wanted(Part::Engines) {
        sections.keep(engines::measure(&bench));
    }
    if wanted(Part::Scale) {
        sections.keep(Ok(scale::memory(&bench)));
        sections.keep(scale::throughput(&bench));
    }
    if wanted(Part::Services) {
        sections.keep(services::measure(&bench));
    }
    if wanted(Part::Cost) {
        let method = cost::Method {
            title: "What a hook costs, under this kernel",
            hooks: &[
                ("fentry", "spin"),
                ("kprobe", "spin"),
                ("tracepoint", "spin"),
                ("tracepoint", "sleep"),
            ],
            length: Duration::from_millis(400),
            rounds: 9,
            clock: cost::Clock::Time,
        };
        sections.keep(cost::measure(&bench, &method));
    }
    for part in [Part::Netem, Part::Guest] {
        if wanted(part) {
            for kernel in &kernels {
                sections.keep(guest::measure(&bench, kernel, part));
            }
        }
    }
    sections.done.reverse();
    eprintln!("bench: done in {} s", started.elapsed().as_secs());
    print!("{}", report::markdown(&facts, &sections.done));
    Ok(if sections.failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What was measured. A part that fails must not cost the others, which took
/// minutes.
#[derive(Default)]
struct Sections {
    done: Vec<Section>,
    failed: bool,
}

impl Sections {
    fn keep(&mut self, section: Result<Section>) {
        match section {
            Ok(section) => self.done.push(section),
            Err(error) => {
                eprintln!("bench: {error:#}");
                self.failed = true;
            }
        }
    }
}
