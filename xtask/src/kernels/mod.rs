//! Debian's cloud kernels: found, fetched and unpacked, never installed.

mod abi;
mod archive;
mod bzimage;
mod elf;
mod modules;
mod prepare;

use std::{error::Error, fmt, fs::File, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::cache;

/// A kernel series, and the Debian suites that carry it.
pub struct Series {
    /// Major and minor number, as people say them.
    pub name: &'static str,
    suites: &'static [&'static str],
}

/// The series that we test with. A new one is one row.
pub const SERIES: &[Series] = &[
    Series {
        name: "5.10",
        suites: &["bullseye", "bullseye-security"],
    },
    Series {
        name: "6.1",
        suites: &["bookworm", "bookworm-security"],
    },
    Series {
        name: "6.12",
        suites: &["bookworm", "bookworm-security"],
    },
    Series {
        name: "6.18",
        suites: &["trixie-backports"],
    },
    Series {
        name: "7.3",
        suites: &["trixie-backports"],
    },
];

/// A kernel ready to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The version of its Debian package.
    pub debian_version: String,
    /// What QEMU boots: an uncompressed `vmlinux`, or else a bzImage.
    pub image: PathBuf,
    /// Modules to load, in the order of their file names.
    pub modules: PathBuf,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Debian {})", self.release, self.debian_version)
    }
}

/// Why a kernel cannot be had on this machine now.
#[derive(Debug)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unavailable {}

/// Whether to look for a newer package than the one that was fetched before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What is in the cache will do; works without a network.
    Cached,
    /// Ask the archive for the newest.
    Newest,
}

/// Makes the kernel of a series ready to boot: from the cache, or else from the archive.
pub fn resolve(series: &str, freshness: Freshness) -> Result<Kernel, Unavailable> {
    prepared(series, freshness)
        .map_err(|error| Unavailable(format!("kernel {series} cannot be had: {error:#}")))
}

fn prepared(name: &str, freshness: Freshness) -> Result<Kernel> {
    let series = SERIES
        .iter()
        .find(|series| series.name == name)
        .with_context(|| {
            let known: Vec<&str> = SERIES.iter().map(|series| series.name).collect();
            format!("it is none of {}", known.join(", "))
        })?;
    let directory = cache::directory("kernels")?.join(name);
    cache::directory(&format!("kernels/{name}"))?;
    // Two runs at once must not fetch into each other's files.
    let lock = directory.join("lock");
    let lock = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
    lock.lock().context("cannot lock the kernel's cache")?;

    let packages = match freshness {
        Freshness::Cached => archive::fetched(&directory, name),
        Freshness::Newest => None,
    };
    let packages = match packages {
        Some(packages) => packages,
        None => archive::fetch(&directory, name, series.suites)?,
    };
    prepare::prepare(&directory, &packages)
}
