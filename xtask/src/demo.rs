//! `cargo xtask demo`

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{build, privilege, setup};

/// What `demo` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Arguments for `injector demo`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds the injector and becomes `injector demo`.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    privilege::require_root("the demo loads BPF programs and")?;
    setup::ensure()?;
    let binary = build::injector(true)?;
    let error = Command::new(&binary)
        .arg("demo")
        .args(&arguments.arguments)
        .exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}
