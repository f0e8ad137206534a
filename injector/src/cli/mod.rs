//! From words to a job: flags become a [`Plan`] and a
//! [`Selector`](crate::target::Selector); no logic of a run is here.

pub mod args;
mod demo;
mod doctor;
mod failure;
mod go;
mod job;
mod maps;
mod report;
mod report_files;
mod workload;

use std::{io, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use self::args::{Cli, Sub};
use crate::daemon::watchdog::{self, Orders};

/// Reads the command line, does what it says, returns the exit code.
pub fn main() -> ExitCode {
    // clap prints its own errors and exits with 2.
    match dispatch(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("injector: {error:#}");
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

fn dispatch(cli: Cli) -> Result<u8> {
    match cli.subcommand {
        None => job::run(cli.run),
        Some(Sub::Doctor(flags)) => match flags.pid {
            Some(pid) => go::run(pid, flags.output),
            None => doctor::run(&flags),
        },
        Some(Sub::Maps(flags)) => maps::run(flags),
        Some(Sub::Demo(flags)) => demo::run(&flags),
        Some(Sub::Report(flags)) => report::run(&flags),
        Some(Sub::Control { socket, request }) => {
            println!(
                "{}",
                crate::daemon::control::ask(&socket, &request.join(" "))?
            );
            Ok(0)
        }
        Some(Sub::Completions { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "injector", &mut io::stdout());
            Ok(0)
        }
        Some(Sub::Man) => {
            clap_mangen::Man::new(Cli::command()).render(&mut io::stdout())?;
            Ok(0)
        }
        Some(Sub::Workload(flags)) => workload::run(&flags),
        Some(Sub::SleepServer(flags)) => crate::sleeper::server::run(flags.sleeps, flags.control),
        Some(Sub::HoldWatchdog(flags)) => watchdog::run(Orders {
            pid: flags.pid,
            hold_ns: flags.hold_ns,
            target: flags.target,
            armed: flags.armed,
            holds: flags.holds,
            bell: flags.bell,
        }),
        Some(Sub::SleepHolder { server }) => crate::sleeper::holder::run(server),
    }
}
