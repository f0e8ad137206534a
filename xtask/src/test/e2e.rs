//! The end-to-end tests: one program, run here and in virtual machines.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Ring, parallel, results::Tally, run_here, table::Row};
use crate::{
    cargo,
    go::Programs,
    setup,
    vm::{self, Outcome},
};

/// Tells the tests where they run.
const RING_VARIABLE: &str = "INJECTOR_E2E_RING";

/// Tells the tests where Debian's servers that are written in Go are.
const SERVERS_VARIABLE: &str = "INJECTOR_GO_SERVERS";

/// Tells the tests where a browser is.
const BROWSER_VARIABLE: &str = "INJECTOR_BROWSER";

/// A machine is emulated by one thread, and waits now and then. More than two would be
/// slower for each other than they gain.
const MACHINES: usize = 2;

/// The test program, ready to run.
pub struct EndToEnd {
    program: PathBuf,
    filter: Vec<String>,
    timeout: Duration,
}

impl EndToEnd {
    /// Builds the tests and the programs that they trace.
    pub fn build(filter: &[String], timeout: Duration) -> Result<Self> {
        let mut command = cargo::cargo();
        command.args(["test", "--package", "injector", "--test", "e2e", "--no-run"]);
        let tests = Self {
            program: cargo::build_executable("building the e2e tests", &mut command, "e2e")?,
            filter: filter.to_vec(),
            timeout,
        };
        // Here, because compilers take far too long in an emulated machine.
        let status = Command::new(&tests.program)
            .arg("--prepare")
            .current_dir(directory())
            .status()
            .with_context(|| format!("cannot run {}", tests.program.display()))?;
        ensure!(
            status.success(),
            "the e2e tests could not prepare their targets: {status}"
        );
        Ok(tests)
    }

    /// Runs the tests under the kernel that is running, with Go programs to look into.
    pub fn native(&self, programs: &Programs) -> Result<Row> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.filter)
            .current_dir(directory())
            .env(RING_VARIABLE, Ring::Native.name());
        programs.hand_to(&mut command);
        match setup::go_servers() {
            Ok(directory) => {
                command.env(SERVERS_VARIABLE, directory);
            }
            Err(error) => println!("skip real servers: {error:#}"),
        }
        match setup::ensure_browser() {
            Ok(program) => {
                command.env(BROWSER_VARIABLE, program);
            }
            Err(error) => println!("skip pages in a browser: {error:#}"),
        }
        let (counts, note) = run_here(&mut command)?;
        Ok(Row {
            ring: Ring::Native.name(),
            kernel: running_kernel(),
            counts,
            note,
        })
    }

    /// Runs the tests under the kernels of all these series, two at a time where there are two
    /// processors. What each has to say is printed whole when it has ended.
    pub fn under_each(&self, kernels: &[&str]) -> Result<Vec<Row>> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        parallel::map(kernels, MACHINES.min(processors), |series| {
            self.under(series)
        })
        .into_iter()
        .collect()
    }

    /// Runs the tests under the kernel of `series`.
    fn under(&self, series: &str) -> Result<Row> {
        let program = self
            .program
            .to_str()
            .context("the target directory's name is not UTF-8")?;
        let argv: Vec<String> = std::iter::once(program.to_owned())
            .chain(self.filter.iter().cloned())
            .collect();
        let options = vm::Options {
            env: vec![format!("{RING_VARIABLE}={}", Ring::Vm.name())],
            cwd: Some(directory()),
            timeout: self.timeout,
            ..vm::Options::default()
        };
        let mut tally = Tally::new(Vec::new());
        let mut errors = Vec::new();
        eprintln!("[vm] {series}: started; its output follows when it has ended");
        let report = vm::run(series, &argv, &options, &mut tally, &mut errors)?;
        let (counts, note) = match &report.outcome {
            Outcome::Unavailable(reason) => {
                eprintln!("{report}");
                return Ok(Row::unavailable(Ring::Vm.name(), series, reason));
            }
            Outcome::Exited(code) => tally.judge(*code == 0, &format!("exit code {code}")),
            Outcome::TimedOut => {
                tally.judge(false, &format!("no end after {} s", self.timeout.as_secs()))
            }
            Outcome::Died(reason) => {
                tally.judge(false, reason.lines().next().unwrap_or("the machine died"))
            }
        };
        // Both locked at once, so that no other machine's output gets between.
        let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
        writeln!(stdout, "\n[vm] {series}")?;
        stdout.write_all(tally.output())?;
        stdout.flush()?;
        stderr.write_all(&errors)?;
        writeln!(stderr, "{report}")?;
        Ok(Row {
            ring: Ring::Vm.name(),
            kernel: report
                .kernel
                .map_or_else(|| series.to_owned(), |kernel| kernel.release),
            counts,
            note,
        })
    }
}

/// Where cargo would run the tests.
fn directory() -> PathBuf {
    cargo::workspace_root().join("injector")
}

fn running_kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "-".to_owned(), |release| release.trim().to_owned())
}
