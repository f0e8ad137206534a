//! Debian's nginx and redis for the benchmark: unpacked into the cache and not
//! installed, because an installed server starts with the system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{cache, step};

/// The programs, and libraries of theirs that a small Debian does not have.
const PACKAGES: &[&str] = &[
    "nginx",
    "redis-server",
    "redis-tools",
    "libjemalloc2",
    "liblzf1",
];

/// Unpacked servers.
pub struct Servers(PathBuf);

impl Servers {
    /// Fetches and unpacks them unless they are there.
    pub fn ensure() -> Result<Self> {
        let servers = Self(cache::directory("servers")?.join("root"));
        if !servers.0.exists() {
            servers.fetch()?;
        }
        for program in ["usr/sbin/nginx", "usr/bin/redis-server"] {
            let path = servers.0.join(program);
            ensure!(
                path.exists(),
                "Debian's packages brought no {}; remove {} to fetch them again",
                path.display(),
                servers.0.display()
            );
        }
        Ok(servers)
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

    fn fetch(&self) -> Result<()> {
        // Unpacked aside and moved, so that a directory with its final name is complete.
        let partial = self.0.with_extension("partial");
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
            &format!("setup: downloading {}", PACKAGES.join(" ")),
            "about 5 s",
            Command::new("apt-get")
                // apt's own user cannot write below a home directory.
                .args(["-o", "APT::Sandbox::User=root", "download"])
                .args(PACKAGES)
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
        fs::rename(&partial, &self.0)
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
