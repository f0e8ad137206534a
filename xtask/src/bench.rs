//! `cargo xtask bench`

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{build, privilege, refusal::Refusal, setup};

/// What `bench` can be told.
#[derive(clap::Args)]
pub struct Arguments {}

/// Builds the injector and measures it.
pub fn run(_arguments: &Arguments) -> Result<ExitCode> {
    privilege::require_root("the benchmark loads BPF programs and")?;
    setup::ensure()?;
    let _injector = build::injector(true)?;
    // The measurements go here; `vm::run` gives them other kernels.
    bail!(Refusal("there are no benchmarks yet".to_owned()))
}
