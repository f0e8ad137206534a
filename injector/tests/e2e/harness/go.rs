//! Go toolchains, which the Go programs that are traced are built with.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The programs of `targets/go` that trials use.
pub const TARGETS: [&str; 5] = ["busy", "churn", "collide", "demo", "share"];
/// Where the `go` command is below a toolchain's directory in the cache: as
/// Go's own archives have it, and as Debian has it.
const COMMANDS: [&str; 2] = ["go/bin/go", "usr/lib/go-1.19/bin/go"];

/// A toolchain that is there.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Its version, such as `1.24.11`.
    pub version: String,
    command: PathBuf,
}

/// The oldest, the one in the middle and the newest of those that are there;
/// all of them with `INJECTOR_E2E_GO=all`.
pub fn chosen() -> Vec<Toolchain> {
    let mut there = all();
    if env::var("INJECTOR_E2E_GO").is_ok_and(|value| value == "all") || there.len() < 4 {
        return there;
    }
    let last = there.len() - 1;
    let middle = there.len() / 2;
    let mut index = 0;
    there.retain(|_| {
        index += 1;
        [0, middle, last].contains(&(index - 1))
    });
    there
}

/// Those in the project's cache, oldest first.
fn all() -> Vec<Toolchain> {
    let directories = fs::read_dir(cache().join("go"));
    let mut there: Vec<Toolchain> = directories
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let command = COMMANDS.map(|command| entry.path().join(command));
            Some(Toolchain {
                version: entry.file_name().into_string().ok()?,
                command: command.into_iter().find(|command| command.exists())?,
            })
        })
        .collect();
    there.sort_by_key(|toolchain| numbers(&toolchain.version));
    there
}

/// As `xtask/src/cache.rs` has it.
fn cache() -> PathBuf {
    let below = |name| env::var_os(name).map(PathBuf::from);
    below("INJECTOR_CACHE")
        .or_else(|| below("XDG_CACHE_HOME").map(|path| path.join("injector")))
        .or_else(|| below("HOME").map(|path| path.join(".cache/injector")))
        .unwrap_or_default()
}

fn numbers(version: &str) -> Vec<u32> {
    let numbers = version.split('.');
    numbers.filter_map(|number| number.parse().ok()).collect()
}

impl Toolchain {
    /// What a program is called that it has built.
    pub fn program(&self, name: &str) -> String {
        format!("{name}-{}", self.version)
    }

    /// Builds a program.
    pub fn compile(&self, source: &Path, program: &Path) {
        let status = self
            .go()
            .args(["build", "-trimpath", "-o"])
            .arg(program)
            .arg(".")
            .current_dir(source)
            .status()
            .expect("a Go compiler");
        assert!(status.success(), "cannot compile {}", source.display());
    }

    /// What `go tool pprof -top` says of a profile, with lines.
    pub fn top(&self, profile: &Path) -> String {
        let output = self
            .go()
            .args(["tool", "pprof", "-top", "-lines", "-nodefraction=0"])
            .arg(profile)
            .output()
            .expect("go tool pprof");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", profile.display());
        told
    }

    /// The `go` command.
    fn go(&self) -> Command {
        let root = self.command.ancestors().nth(2).expect("a toolchain");
        let mut command = Command::new(&self.command);
        command
            .env("GOROOT", root)
            // Nothing is fetched.
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            .env("GOFLAGS", "");
        command
    }
}
