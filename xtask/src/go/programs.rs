//! The programs of the matrix: one source, built in every way that makes a
//! difference to who reads the result.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};

use super::Toolchain;
use crate::{cache, cargo, step};

/// A way to build the program.
struct Kind {
    name: &'static str,
    arguments: &'static [&'static str],
    cgo: bool,
    architecture: &'static str,
    experiment: &'static str,
    /// Versions that have it.
    minors: std::ops::RangeInclusive<u32>,
    /// `go tool nm` lists it; what the system's linker adds is not in the
    /// runtime's table.
    listed: bool,
}

const PLAIN: Kind = Kind {
    name: "plain",
    arguments: &[],
    cgo: false,
    architecture: "amd64",
    experiment: "",
    minors: 0..=u32::MAX,
    listed: true,
};

const KINDS: &[Kind] = &[
    PLAIN,
    Kind {
        name: "stripped",
        arguments: &["-ldflags=-s -w"],
        listed: false,
        ..PLAIN
    },
    Kind {
        name: "pie",
        arguments: &["-buildmode=pie"],
        ..PLAIN
    },
    Kind {
        name: "cgo",
        cgo: true,
        listed: false,
        ..PLAIN
    },
    // The hardest: nothing that helps is left.
    Kind {
        name: "external",
        arguments: &["-buildmode=pie", "-ldflags=-linkmode=external -s -w"],
        cgo: true,
        listed: false,
        ..PLAIN
    },
    Kind {
        name: "arm64",
        architecture: "arm64",
        ..PLAIN
    },
    Kind {
        name: "classic",
        experiment: "noswissmap",
        minors: 24..=25,
        ..PLAIN
    },
];

/// Where the programs are: `VERSION/KIND`, and `VERSION/KIND.nm` with the
/// functions by `go tool nm`.
pub fn directory() -> Result<PathBuf> {
    cache::directory("go/programs")
}

/// Builds those that are missing or older than their source.
pub fn build(toolchain: &Toolchain, root: &Path) -> Result<()> {
    let sources = cargo::workspace_root().join("injector/tests/targets/go/matrix");
    let changed = newest(&sources)?;
    let directory = cache::directory(&format!("go/programs/{}", toolchain.version))?;
    let minor = toolchain.minor();
    for kind in KINDS.iter().filter(|kind| kind.minors.contains(&minor)) {
        let program = directory.join(kind.name);
        let built = fs::metadata(&program).and_then(|data| data.modified());
        if built.is_ok_and(|built| built > changed) {
            continue;
        }
        let partial = directory.join("partial.tmp");
        step::run(
            "go-build",
            &format!("go: building {} with Go {}", kind.name, toolchain.version),
            "1 to 20 s",
            kind.go(root)?
                .args(["build", "-o"])
                .arg(&partial)
                .args(kind.arguments)
                .arg(".")
                .current_dir(&sources),
        )?;
        if kind.listed {
            list(kind, root, &partial, &program)?;
        }
        fs::rename(&partial, &program)
            .with_context(|| format!("cannot move {} into place", program.display()))?;
    }
    Ok(())
}

impl Kind {
    /// The go command, which asks no network and no other toolchain.
    fn go(&self, root: &Path) -> Result<Command> {
        let mut command = Command::new(root.join("bin/go"));
        command
            .env("GOROOT", root)
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            .env("GOFLAGS", "-mod=mod")
            .env("GOENV", "off")
            .env("GOCACHE", cache::directory("go/build")?)
            .env("GOARCH", self.architecture)
            .env("GOEXPERIMENT", self.experiment)
            .env("CGO_ENABLED", if self.cgo { "1" } else { "0" });
        Ok(command)
    }
}

fn list(kind: &Kind, root: &Path, partial: &Path, program: &Path) -> Result<()> {
    // The tool itself runs here, whatever it looks at.
    let output = kind
        .go(root)?
        .env_remove("GOARCH")
        .env_remove("GOEXPERIMENT")
        .args(["tool", "nm"])
        .arg(partial)
        .output()
        .context("cannot run go tool nm")?;
    ensure!(
        output.status.success(),
        "go tool nm: {}:\n{}",
        output.status,
        step::last_lines(&String::from_utf8_lossy(&output.stderr), 8)
    );
    let listing = program.with_extension("nm");
    fs::write(&listing, output.stdout)
        .with_context(|| format!("cannot write {}", listing.display()))
}

/// When one of the files in a directory was last changed.
fn newest(directory: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        newest = newest.max(entry?.metadata()?.modified()?);
    }
    Ok(newest)
}
