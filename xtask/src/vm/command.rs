//! `cargo xtask vm`

use std::{
    env, io,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Options, Report};
use crate::{
    kernels::{Freshness, SERIES},
    privilege,
    refusal::Refusal,
    setup,
};

/// What `vm` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Kernels to run under: series such as 6.1,6.12, or "all"
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: String,
    /// More arguments for the kernel, such as "lsm=lockdown,bpf" on 5.10
    #[arg(
        long,
        value_name = "ARGUMENTS",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    mem: u32,
    /// Processors
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// Seconds after which the machine is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// A variable for the command: NAME=VALUE, or NAME to pass ours on
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Show the kernel's console at the end
    #[arg(long)]
    console: bool,
    /// Look for newer kernels than the cached ones
    #[arg(long)]
    refresh: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command under each kernel; the worst exit code becomes ours.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kernels = parse_kernels(&arguments.kernel)?;
    privilege::require_root("sharing the host's files with a virtual machine")?;
    setup::ensure()?;
    let options = arguments.options()?;
    let started = Instant::now();
    let mut reports = Vec::new();
    for series in &kernels {
        let report = super::run(
            series,
            &arguments.command,
            &options,
            &mut io::stdout(),
            &mut io::stderr(),
        )?;
        eprintln!("{report}");
        reports.push(report);
    }
    if reports.len() > 1 {
        print_table(&reports, started.elapsed());
    }
    Ok(worst(&reports))
}

impl Arguments {
    fn options(&self) -> Result<Options> {
        Ok(Options {
            append: self.append.clone(),
            memory_mib: self.mem,
            processors: self.cpus,
            count_instructions: false,
            timeout: Duration::from_secs(self.timeout),
            env: self
                .env
                .iter()
                .map(|variable| with_value(variable))
                .collect::<Result<_>>()?,
            cwd: None,
            show_console: self.console,
            freshness: if self.refresh {
                Freshness::Newest
            } else {
                Freshness::Cached
            },
        })
    }
}

/// Reads a list of series, or "all".
pub fn parse_kernels(list: &str) -> Result<Vec<&str>> {
    let known = SERIES.iter().map(|series| series.name);
    if list == "all" {
        return Ok(known.collect());
    }
    let kernels: Vec<&str> = list.split(',').map(str::trim).collect();
    for kernel in &kernels {
        ensure!(
            known.clone().any(|name| name == *kernel),
            Refusal(format!(
                "no kernel series {kernel:?} is known; there are {}, and \"all\"",
                known.clone().collect::<Vec<_>>().join(", ")
            ))
        );
    }
    Ok(kernels)
}

fn with_value(variable: &str) -> Result<String> {
    if variable.contains('=') {
        return Ok(variable.to_owned());
    }
    let value = env::var(variable).with_context(|| {
        format!("--env {variable}: it is not set here; give it a value as {variable}=VALUE")
    })?;
    Ok(format!("{variable}={value}"))
}

fn worst(reports: &[Report]) -> ExitCode {
    let code = reports
        .iter()
        .map(|report| report.outcome.exit_code())
        .max()
        .unwrap_or(0);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn print_table(reports: &[Report], elapsed: Duration) {
    eprintln!("\nkernel  release                         result       boot     run");
    for report in reports {
        let release = report
            .kernel
            .as_ref()
            .map_or("-", |kernel| kernel.release.as_str());
        eprintln!(
            "{:<7} {release:<31} {:<11} {:>5.1} s {:>5.1} s",
            report.series,
            report.outcome.to_string(),
            report.boot.as_secs_f64(),
            report.run.as_secs_f64(),
        );
    }
    eprintln!("in all {:.1} s", elapsed.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kernel_lists() {
        assert_eq!(parse_kernels("6.1, 6.12").unwrap(), ["6.1", "6.12"]);
        assert_eq!(parse_kernels("all").unwrap().len(), SERIES.len());
        let error = parse_kernels("6.1,4.4").unwrap_err();
        assert!(error.is::<Refusal>());
        assert!(error.to_string().contains("\"4.4\""));
    }

    #[test]
    fn reads_variables() {
        assert_eq!(with_value("A=b=c").unwrap(), "A=b=c");
        assert!(with_value("INJECTOR_NO_SUCH_VARIABLE").is_err());
        assert!(with_value("PATH").unwrap().starts_with("PATH="));
    }
}
