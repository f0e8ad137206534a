//! `cargo xtask`: the project's own tools.

mod apt;
mod bench;
mod build;
mod cache;
mod cargo;
mod demo;
mod go;
mod kernels;
mod lint;
mod privilege;
mod refusal;
mod screenshots;
mod setup;
mod step;
mod test;
mod toolchain;
mod vm;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use refusal::Refusal;

/// Exit code for wrong usage and for what this machine does not allow.
const EXIT_USAGE: u8 = 2;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tools of the injector project")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need (does nothing when all is there)
    Setup,
    /// Build the injector
    Build(build::Arguments),
    /// Check formatting and run clippy, on the kernel programs too
    Lint,
    /// Run the tests: on the host, against this kernel, and in virtual machines
    Test(test::Arguments),
    /// Run a command under another kernel
    Vm(vm::command::Arguments),
    /// Build the injector and show what it does
    Demo(demo::Arguments),
    /// Measure what the injector costs
    Bench(bench::Arguments),
    /// Make the pictures of the HTML report that the documents show
    Screenshots(screenshots::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Build(arguments) => build::run(&arguments),
        Command::Lint => lint::run(),
        Command::Test(arguments) => test::run(&arguments),
        Command::Vm(arguments) => vm::command::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Screenshots(arguments) => screenshots::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        // Whoever read our output has seen enough: a normal end.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Refusal>() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
