//! bpf-linker, built against the LLVM of the compiler whose bitcode it links.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cache, step,
    toolchain::{self, BPF_TARGET, Compiler},
};

/// The version that this project is built with.
const VERSION: &str = "0.13.0";
/// The LLVM versions which that version of bpf-linker has a feature for.
const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// The smallest program worth linking. A library, because a whole program would
/// bring all of `core` along, and linking that takes seconds.
const PROBE: &str = "#![no_std]\n\
    #[unsafe(no_mangle)]\n\
    #[unsafe(link_section = \"socket\")]\n\
    pub extern \"C\" fn probe() -> i32 { 0 }\n";

/// A version of LLVM, as far as its libraries are named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Llvm {
    major: u32,
    minor: u32,
}

/// Makes sure that a bpf-linker which can do the job is on PATH.
pub fn ensure() -> Result<()> {
    let compiler = Compiler::detect().context(
        "no compiler for BPF although its packages are installed: is /usr/bin/rustc gone?",
    )?;
    if works(compiler)? {
        return Ok(());
    }
    if toolchain::find_linker().is_some() {
        eprintln!("setup: the bpf-linker that is there cannot link for {compiler}");
    }
    build(llvm_of(compiler)?)?;
    ensure!(
        works(compiler)?,
        "bpf-linker {VERSION} is installed, yet it cannot link what {compiler} compiles; \
         see `bpf-linker --version` and whether another one comes first on PATH"
    );
    Ok(())
}

/// Tries it: a linker that is too old for the bitcode, or whose LLVM has been
/// upgraded away, looks like any other until it is run.
fn works(compiler: Compiler) -> Result<bool> {
    let Some(linker) = toolchain::find_linker() else {
        return Ok(false);
    };
    if compiler == Compiler::Nightly {
        // nightly has no prebuilt core, so there is nothing to link in a moment.
        let status = Command::new(linker)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        return Ok(status.is_ok_and(|status| status.success()));
    }
    let directory = cache::directory("probe")?;
    let bitcode = directory.join("probe.bc");
    compile_probe(compiler, &bitcode)?;
    let status = Command::new(linker)
        .args(["--emit", "obj", "--export", "probe", "-o"])
        .arg(directory.join("probe.o"))
        .arg(&bitcode)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    Ok(status.is_ok_and(|status| status.success()))
}

fn compile_probe(compiler: Compiler, bitcode: &Path) -> Result<()> {
    let mut rustc = compiler
        .rustc()
        .args(["-", "--edition", "2024", "--crate-type", "lib", "-O"])
        .args(["--emit", "llvm-bc", "--target", BPF_TARGET, "-o"])
        .arg(bitcode)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {compiler}"))?;
    let mut stdin = rustc.stdin.take().context("rustc has no stdin")?;
    stdin
        .write_all(PROBE.as_bytes())
        .context("cannot hand rustc its program")?;
    drop(stdin);
    let status = rustc.wait().context("waiting for rustc")?;
    ensure!(
        status.success(),
        "{compiler}: cannot compile the smallest program for {BPF_TARGET} ({status}); \
         reinstall libstd-rust-web-dev-bpf if it is of another version than rustc-web"
    );
    Ok(())
}

fn llvm_of(compiler: Compiler) -> Result<Llvm> {
    let output = compiler
        .rustc()
        .arg("-vV")
        .output()
        .with_context(|| format!("cannot run {compiler}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_llvm(&text).with_context(|| format!("`rustc -vV` names no LLVM version:\n{text}"))
}

fn parse_llvm(verbose_version: &str) -> Option<Llvm> {
    let version = verbose_version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    let mut numbers = version.trim().split('.');
    Some(Llvm {
        major: numbers.next()?.parse().ok()?,
        minor: numbers.next()?.parse().ok()?,
    })
}

fn build(llvm: Llvm) -> Result<()> {
    let Llvm { major, minor } = llvm;
    if !LLVM_MAJORS.contains(&major) {
        bail!(
            "the compiler uses LLVM {major}, and bpf-linker {VERSION} can be built with {} to {}: \
             move VERSION in xtask/src/setup/linker.rs",
            LLVM_MAJORS.start(),
            LLVM_MAJORS.end()
        );
    }
    let prefix = llvm_prefix(llvm)?;
    step::run(
        "bpf-linker",
        &format!("setup: building bpf-linker {VERSION} for LLVM {major}.{minor}"),
        "70 to 140 s on two cores",
        Command::new("cargo")
            .args(["install", "bpf-linker", "--version", VERSION])
            .args(["--locked", "--force", "--no-default-features"])
            .args(["--features", &format!("llvm-{major}")])
            .env("LLVM_PREFIX", prefix)
            // The settings of this workspace are not meant for it.
            .env_remove("RUSTC_BOOTSTRAP")
            .env_remove("CARGO_TARGET_DIR"),
    )
}

/// A directory that looks to bpf-linker's build script like an installed LLVM:
/// it wants `lib/libLLVM.so`, which Debian ships only in the -dev package.
fn llvm_prefix(llvm: Llvm) -> Result<PathBuf> {
    let library = find_library(llvm)?;
    let prefix = cache::directory(&format!("llvm-{}.{}", llvm.major, llvm.minor))?;
    let directory = prefix.join("lib");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let link = directory.join("libLLVM.so");
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", link.display()));
        }
        _ => {}
    }
    symlink(&library, &link).with_context(|| format!("cannot create {}", link.display()))?;
    Ok(prefix)
}

fn find_library(Llvm { major, minor }: Llvm) -> Result<PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let names = [
        format!("libLLVM.so.{major}.{minor}"),
        format!("libLLVM-{major}.so.1"),
        format!("libLLVM-{major}.so"),
    ];
    [&multiarch, "/usr/lib64", "/usr/lib"]
        .iter()
        .flat_map(|directory| names.iter().map(|name| Path::new(directory).join(name)))
        .find(|candidate| candidate.exists())
        .with_context(|| {
            format!(
                "no library of LLVM {major}.{minor} to build bpf-linker with: install libllvm{major}, \
                 or a ready-made bpf-linker"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_llvm_version() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nhost: x86_64-unknown-linux-gnu\n\
                    release: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(
            parse_llvm(text),
            Some(Llvm {
                major: 22,
                minor: 1
            })
        );
        assert_eq!(parse_llvm("release: 1.96.0\n"), None);
        assert_eq!(parse_llvm("LLVM version: unknown\n"), None);
    }
}
