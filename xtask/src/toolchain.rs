//! Which compiler builds the kernel programs on this machine, and with what linker.
//!
//! `injector/build.rs` includes this same file by path, so that the build and
//! `cargo xtask setup` cannot disagree. It therefore uses nothing but std.

#![allow(dead_code, reason = "each of the two users needs a part of this file")]

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian's compiler keeps what it was built for.
const DEBIAN_SYSROOT: &str = "/usr";

/// The target of the kernel programs on a little-endian machine.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build for the BPF target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Debian's `rustc-web`, whose `core` for BPF is prebuilt.
    Debian,
    /// rustup's nightly with `rust-src`, which builds `core` itself.
    Nightly,
}

impl Compiler {
    /// Finds the compiler to use; Debian's first, because it needs no nightly.
    pub fn detect() -> Option<Self> {
        if debian_has_core() {
            Some(Self::Debian)
        } else if nightly_has_source() {
            Some(Self::Nightly)
        } else {
            None
        }
    }

    /// What `rustup run` calls this compiler (it takes a directory, too).
    pub fn rustup_name(self) -> &'static str {
        match self {
            Self::Debian => DEBIAN_SYSROOT,
            Self::Nightly => "nightly",
        }
    }

    /// A command that runs this compiler's `rustc`.
    pub fn rustc(self) -> Command {
        match self {
            Self::Debian => Command::new(Path::new(DEBIAN_SYSROOT).join("bin/rustc")),
            Self::Nightly => nightly_rustc(),
        }
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => {
                "Debian's rustc in /usr, because it has a prebuilt core for bpfel-unknown-none"
            }
            Self::Nightly => {
                "rustup's nightly, because it has rust-src and no Debian rustc with a BPF core is there"
            }
        })
    }
}

/// All that is needed to build the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Who compiles.
    pub compiler: Compiler,
    /// The `bpf-linker` that links.
    pub linker: PathBuf,
}

/// Decides which toolchain builds the kernel programs, or says what to do to get one.
pub fn detect() -> Result<Toolchain, String> {
    let compiler = Compiler::detect().ok_or(
        "no compiler for bpfel-unknown-none: neither Debian's rustc-web with \
         libstd-rust-web-dev-bpf, nor rustup's nightly with rust-src; run `cargo xtask setup`",
    )?;
    let linker = find_linker().ok_or(
        "bpf-linker is neither on PATH nor in cargo's bin directory; run `cargo xtask setup`",
    )?;
    Ok(Toolchain { compiler, linker })
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; linker {}", self.compiler, self.linker.display())
    }
}

/// Finds `bpf-linker` on PATH, then where `cargo install` puts it.
pub fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_bin())
        .map(|directory| directory.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

/// The directory `cargo install` installs into.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    Some(home.join("bin"))
}

fn debian_has_core() -> bool {
    let sysroot = Path::new(DEBIAN_SYSROOT);
    sysroot.join("bin/rustc").is_file()
        && fs::read_dir(sysroot.join("lib/rustlib").join(BPF_TARGET).join("lib")).is_ok_and(
            |files| {
                files
                    .flatten()
                    .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
            },
        )
}

fn nightly_has_source() -> bool {
    let Ok(output) = nightly_rustc().args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
}

fn nightly_rustc() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc"]);
    command
}
