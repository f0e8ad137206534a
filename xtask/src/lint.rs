//! `cargo xtask lint`

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{cargo, setup, toolchain::BPF_TARGET};

/// Debian's clippy, which knows the BPF target.
const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// Machines whose registers the kernel programs know. Only one of them runs here.
const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// Checks formatting, then runs clippy on the host's code and on the kernel programs.
pub fn run() -> Result<ExitCode> {
    setup::ensure()?;
    cargo::run(
        "rustfmt (`cargo fmt` puts it right)",
        cargo::cargo().args(["fmt", "--all", "--check"]),
    )?;
    cargo::run(
        "clippy",
        cargo::cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    if Path::new(DEBIAN_CLIPPY).exists() {
        for machine in MACHINES {
            let what = format!("clippy for the kernel programs on {machine}");
            cargo::run(&what, &mut bpf_clippy(machine))?;
        }
    } else {
        eprintln!("clippy for the kernel programs: left out, {DEBIAN_CLIPPY} is not there");
    }
    Ok(ExitCode::SUCCESS)
}

fn bpf_clippy(machine: &str) -> Command {
    let mut command = Command::new(DEBIAN_CLIPPY);
    command
        .current_dir(cargo::workspace_root())
        .args(["clippy", "--package", "injector-ebpf", "--bins"])
        .args(["--release", "--target", BPF_TARGET])
        // Apart from the host's build, which another compiler makes.
        .arg("--target-dir")
        .arg(cargo::target_directory().join(format!("bpf-clippy-{machine}")))
        .args(["--", "-D", "warnings"])
        .env("RUSTC", "/usr/bin/rustc")
        // aya-build sets the same when it builds the programs.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{machine}\""),
        );
    command
}
