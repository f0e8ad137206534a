//! `cargo xtask demo`

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{build, go, privilege, setup};

/// What `demo` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Arguments for `injector demo`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds the injector and becomes `injector demo`; on a Go program if there is a
/// toolchain.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    privilege::require_root("the demo loads BPF programs and")?;
    setup::ensure()?;
    let binary = build::injector(true)?;
    let mut command = Command::new(&binary);
    command.arg("demo");
    match go::demo()? {
        Some(program) => {
            command.arg("--program").arg(program);
        }
        None => eprintln!(
            "demo: there is no Go toolchain, so no maps are traced: `cargo xtask test --ring go` \
             fetches some, or install Go 1.19 or later"
        ),
    }
    let error = command.args(&arguments.arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}
