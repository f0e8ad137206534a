//! Builds the guest's init.

use std::path::PathBuf;

use anyhow::Result;

use crate::cargo;

/// A glibc target; the guest's init is linked statically, because it starts before it has any
/// libraries to load.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds `vm-init` if it is not up to date, and returns its path.
pub fn build() -> Result<PathBuf> {
    let mut command = cargo::cargo();
    command
        .args(["build", "--quiet", "--package", "xtask"])
        .args(["--bin", "vm-init", "--no-default-features"])
        // Naming the target keeps the flags away from build scripts.
        .args(["--release", "--target", TARGET])
        .arg("--target-dir")
        .arg(cargo::target_directory().join("vm-init"))
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C panic=abort -C strip=symbols",
        );
    cargo::build_executable("building the guest's init", &mut command, "vm-init")
}
