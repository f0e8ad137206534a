//! Debian's servers for the benchmark and the tests: unpacked into the cache and
//! not installed, because an installed server starts with the system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{cache, step};

/// Servers that are fetched together.
struct Set {
    /// Where they are below the cache.
    directory: &'static str,
    /// Their packages, and those of libraries that a small Debian does not have.
    packages: &'static [&'static str],
    /// What the packages have to bring.
    programs: &'static [&'static str],
}

const OF_BENCH: Set = Set {
    directory: "root",
    packages: &[
        "nginx",
        "redis-server",
        "redis-tools",
        "libjemalloc2",
        "liblzf1",
    ],
    programs: &["usr/sbin/nginx", "usr/bin/redis-server"],
};

/// Written in Go.
const OF_GO: Set = Set {
    directory: "go",
    packages: &["etcd-server", "prometheus", "caddy"],
    programs: &["usr/bin/etcd", "usr/bin/prometheus", "usr/bin/caddy"],
};

/// The benchmark's servers.
pub struct Servers(PathBuf);

/// Where servers that are written in Go are; fetched unless they are there.
pub fn go_servers() -> Result<PathBuf> {
    OF_GO.ensure()
}

impl Servers {
    /// Fetches and unpacks them unless they are there.
    pub fn ensure() -> Result<Self> {
        OF_BENCH.ensure().map(Self)
    }

    /// nginx.
    pub fn nginx(&self) -> Command {
        self.command("usr/sbin/nginx")
    }

    /// redis.
    pub fn redis(&self) -> Command {
        self.command("usr/bin/redis-server")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.0.join(program));
        let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", self.0.join(libraries));
        command
    }
}

impl Set {
    fn ensure(&self) -> Result<PathBuf> {
        let root = cache::directory("servers")?.join(self.directory);
        if !root.exists() {
            self.fetch(&root)?;
        }
        for program in self.programs {
            let path = root.join(program);
            ensure!(
                path.exists(),
                "Debian's packages brought no {}; remove {} to fetch them again",
                path.display(),
                root.display()
            );
        }
        Ok(root)
    }

    fn fetch(&self, root: &Path) -> Result<()> {
        // Unpacked aside and moved, so that a directory with its final name is complete.
        let partial = root.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("cannot clear {}", partial.display()))?;
        }
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        step::run(
            "apt-update",
            "setup: updating apt's lists",
            "about 10 s",
            Command::new("apt-get").arg("update"),
        )?;
        step::run(
            "apt-download",
            &format!("setup: downloading {}", self.packages.join(" ")),
            "about 5 s",
            Command::new("apt-get")
                // apt's own user cannot write below a home directory.
                .args(["-o", "APT::Sandbox::User=root", "download"])
                .args(self.packages)
                .current_dir(&partial),
        )?;
        for package in packages(&partial)? {
            step::run(
                "unpack",
                &format!("setup: unpacking {}", package.display()),
                "a moment",
                Command::new("dpkg").arg("-x").arg(&package).arg(&partial),
            )?;
        }
        fs::rename(&partial, root)
            .with_context(|| format!("cannot move {} into place", partial.display()))
    }
}

fn packages(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut packages = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    Ok(packages)
}
