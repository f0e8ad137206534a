//! `cargo xtask setup`: makes a fresh Debian machine ready to build and test.

mod linker;
mod packages;
mod servers;

use std::process::ExitCode;

use anyhow::{Result, anyhow, ensure};

pub use packages::{ensure_bpftrace, ensure_browser, ensure_go};
pub use servers::{Servers, go_servers};

use crate::{privilege, refusal::Refusal, toolchain};

/// Installs what is missing and says which toolchain will be used.
pub fn run() -> Result<ExitCode> {
    ensure()?;
    let toolchain = toolchain::detect().map_err(|reason| anyhow!(reason))?;
    eprintln!("setup: all is there; kernel programs are built by {toolchain}");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing; says nothing when nothing is.
pub fn ensure() -> Result<()> {
    let missing = packages::missing();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
        ensure!(
            privilege::is_root(),
            Refusal(format!(
                "missing: {}; run `cargo xtask setup` as root to install them",
                names.join(", ")
            ))
        );
        packages::install(&missing)?;
    }
    linker::ensure()
}
