//! `cargo xtask test`: three rings, from pure functions to other kernels.

mod e2e;
mod parallel;
mod results;
mod table;

use std::{
    io,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    bench::explain,
    cargo,
    go::{self, Programs},
    privilege, setup, vm,
};
use e2e::EndToEnd;
use results::{Counts, Tally};
use table::Row;

/// What `test` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Kernels for the ring of virtual machines: series such as 6.1,6.12, or "all"
    #[arg(long, value_name = "SERIES", default_value = "6.1,6.12")]
    kernel: String,
    /// Go versions for the ring of Go programs, such as 1.24 or 1.19,1.27, or "all"
    #[arg(long, value_name = "VERSIONS", default_value = go::DEFAULT)]
    go: String,
    /// Rings to run; all of them when none is named
    #[arg(long, value_name = "RING", value_delimiter = ',')]
    ring: Vec<Ring>,
    /// Seconds that the end-to-end tests may take under one kernel
    #[arg(long, value_name = "SECONDS", default_value_t = 2400)]
    timeout: u64,
    /// Arguments for the test programs: which tests to run
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

/// The tests that need programs which Go toolchains built. No others are ignored
/// unless asked for.
const GO_TESTS: &str = "go::matrix::";

/// A set of tests and where they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ring {
    /// Tests of pure code: any machine, no kernel programs loaded
    Host,
    /// Tests of what is read from Go programs, on those that real toolchains build
    Go,
    /// End-to-end tests under the kernel that is running
    Native,
    /// End-to-end tests under other kernels, in virtual machines
    Vm,
}

impl Ring {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Go => "go",
            Self::Native => "native",
            Self::Vm => "vm",
        }
    }
}

/// Runs the rings and prints what they came to; fails when any test did.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let toolchains = go::parse(&arguments.go)?;
    let kernels = vm::command::parse_kernels(&arguments.kernel)?;
    privilege::require_root("the tests load BPF programs, so this")?;
    setup::ensure()?;

    let wanted = |ring| arguments.ring.is_empty() || arguments.ring.contains(&ring);
    let mut rows = Vec::new();
    if wanted(Ring::Host) {
        rows.push(host(&arguments.filter)?);
    }
    let programs = if wanted(Ring::Go) || wanted(Ring::Native) {
        go::prepare(&toolchains)?
    } else {
        Programs::default()
    };
    if wanted(Ring::Go) {
        rows.extend(go_programs(&programs, &arguments.filter)?);
    }
    if wanted(Ring::Native) || wanted(Ring::Vm) {
        match EndToEnd::build(&arguments.filter, Duration::from_secs(arguments.timeout)) {
            Ok(tests) => {
                if wanted(Ring::Native) {
                    rows.push(tests.native(&programs)?);
                }
                if wanted(Ring::Vm) {
                    rows.extend(tests.under_each(&kernels)?);
                }
            }
            Err(error) => rows.push(Row::failed("e2e", "-", &format!("{error:#}"))),
        }
    }
    table::print(&rows);
    let failed = rows.iter().any(|row| row.counts.failed > 0);
    Ok(ExitCode::from(u8::from(failed)))
}

fn host(filter: &[String]) -> Result<Row> {
    let mut command = cargo::cargo();
    command
        .args([
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--no-fail-fast",
            "--",
            // They have a ring of their own.
            "--skip",
            GO_TESTS,
        ])
        .args(filter);
    let (counts, note) = run_here(&mut command)?;
    Ok(Row {
        ring: Ring::Host.name(),
        kernel: "-".to_owned(),
        counts,
        note,
    })
}

/// Only what needs the programs; the rest is in the ring before.
fn go_programs(programs: &Programs, filter: &[String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if !programs.versions.is_empty() {
        let mut command = cargo::cargo();
        command
            .args(["test", "--package", "injector", "--bin", "injector", "--"])
            .args(["--ignored", "--skip", explain::TEST])
            .args(filter);
        programs.hand_to(&mut command);
        let (counts, note) = run_here(&mut command)?;
        rows.push(Row {
            ring: Ring::Go.name(),
            kernel: programs.versions.join(" "),
            counts,
            note,
        });
    }
    for (version, reason) in &programs.missing {
        rows.push(Row::unavailable(Ring::Go.name(), version, reason));
    }
    Ok(rows)
}

/// Runs a test program on this machine and counts its results.
fn run_here(command: &mut Command) -> Result<(Counts, Option<String>)> {
    let name = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", name.display()))?;
    let mut tally = Tally::new(io::stdout());
    if let Some(mut stdout) = child.stdout.take() {
        io::copy(&mut stdout, &mut tally).context("cannot pass the tests' output on")?;
    }
    let status = child.wait().context("waiting for the tests")?;
    Ok(tally.judge(status.success(), &status.to_string()))
}
