//! `cargo xtask build`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{cargo, setup};

/// What `build` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Optimise, as for an installation
    #[arg(long)]
    release: bool,
}

/// Builds the injector, after setting the machine up if need be.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure()?;
    let binary = injector(arguments.release)?;
    println!("{}", binary.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the injector and returns the path of its binary.
pub fn injector(release: bool) -> Result<PathBuf> {
    let mut command = cargo::cargo();
    command.args(["build", "--package", "injector", "--bin", "injector"]);
    if release {
        command.arg("--release");
    }
    cargo::build_executable("building injector", &mut command, "injector")
}
