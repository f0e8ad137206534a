//! Kernel file systems that only we see.
//!
//! Tracepoints are found by number in tracefs, lockdown and the LSM list stand
//! in securityfs. Where they are not mounted, they are mounted in a mount
//! namespace of our own, so that nothing is left behind.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// Type, mount point, and a file that shows that it is mounted.
const FILE_SYSTEMS: [(&str, &str, &str); 2] = [
    (
        "tracefs",
        "/sys/kernel/tracing",
        "/sys/kernel/tracing/events",
    ),
    (
        "securityfs",
        "/sys/kernel/security",
        "/sys/kernel/security/lsm",
    ),
];

/// The mount namespace that we came from, if we had to leave it.
pub struct HostMounts(Option<Left>);

struct Left {
    namespace: File,
    directory: PathBuf,
}

impl HostMounts {
    /// Makes tracefs and securityfs visible to this process. Must run while the
    /// process has a single thread: a mount namespace belongs to a thread.
    pub fn enter() -> io::Result<Self> {
        let missing: Vec<_> = FILE_SYSTEMS
            .iter()
            .filter(|(_, _, sign)| !Path::new(sign).exists())
            .collect();
        if missing.is_empty() {
            return Ok(Self(None));
        }
        let left = Left {
            namespace: File::open("/proc/self/ns/mnt")?,
            directory: std::env::current_dir()?,
        };
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Without this the mounts would propagate to the host.
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        for (kind, point, _) in missing {
            // A kernel without the file system lacks what needs it; that is
            // reported where it matters.
            let _ = mount(Some(*kind), *point, Some(*kind), MsFlags::empty(), none);
        }
        Ok(Self(Some(left)))
    }

    /// Goes back to the host's mounts: for a child before it executes a
    /// command. `setns` moves to the root directory, so the old one is restored.
    pub fn leave(&self) -> io::Result<()> {
        if let Some(left) = &self.0 {
            setns(&left.namespace, CloneFlags::CLONE_NEWNS)?;
            std::env::set_current_dir(&left.directory)?;
        }
        Ok(())
    }
}
