//! The program of `cargo xtask demo`.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::toolchain;
use crate::{cache, cargo, step};

/// Builds it with the newest toolchain of the cache, or else with the `go` of the
/// machine; nothing is fetched for it. None without either.
pub fn demo() -> Result<Option<PathBuf>> {
    let mut newest_first = toolchain::ALL.iter().rev();
    let mut go = match newest_first.find(|toolchain| toolchain.is_there()) {
        Some(toolchain) => {
            let root = toolchain.root()?;
            let mut go = Command::new(root.join("bin/go"));
            go.env("GOROOT", root).env("GOENV", "off");
            go
        }
        None if Command::new("go").arg("version").output().is_ok() => Command::new("go"),
        None => return Ok(None),
    };
    let program = cache::directory("go/programs")?.join("demo");
    step::run(
        "go-demo",
        "go: building the demonstration's program",
        "1 to 20 s",
        go.args(["build", "-trimpath", "-o"])
            .arg(&program)
            .arg(".")
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            .env("GOCACHE", cache::directory("go/build")?)
            .current_dir(cargo::workspace_root().join("injector/tests/targets/go/demo")),
    )
    .context("cannot build the demonstration's program")?;
    Ok(Some(program))
}
