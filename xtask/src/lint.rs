//! `cargo xtask lint`

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{cargo, setup, toolchain::BPF_TARGET};

/// Debian's clippy, which knows the BPF target.
const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";

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
        cargo::run("clippy for the kernel programs", &mut bpf_clippy())?;
    } else {
        eprintln!("clippy for the kernel programs: left out, {DEBIAN_CLIPPY} is not there");
    }
    Ok(ExitCode::SUCCESS)
}

fn bpf_clippy() -> Command {
    let mut command = Command::new(DEBIAN_CLIPPY);
    command
        .current_dir(cargo::workspace_root())
        .args(["clippy", "--package", "injector-ebpf", "--bins"])
        .args(["--release", "--target", BPF_TARGET])
        // Apart from the host's build, which another compiler makes.
        .arg("--target-dir")
        .arg(cargo::target_directory().join("bpf-clippy"))
        .args(["--", "-D", "warnings"])
        .env("RUSTC", "/usr/bin/rustc")
        // aya-build sets the same when it builds the programs.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        );
    command
}
