//! The guest's file systems.

use std::fs;

use crate::{sys, wire::SHARE};

/// What kernel and userspace expect below the new root, in this order. The host's own files are
/// below these mounts, as virtiofs shows them.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", "ptmxmode=666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("tmpfs", "/run", "mode=755"),
    ("bpf", "/sys/fs/bpf", ""),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("fusectl", "/sys/fs/fuse/connections", ""),
    ("securityfs", "/sys/kernel/security", ""),
    ("debugfs", "/sys/kernel/debug", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
];

/// Mounts what loading modules and finding the port need.
pub fn early() -> Result<(), String> {
    for (kind, target) in [("devtmpfs", "/dev"), ("sysfs", "/sys")] {
        create(target)?;
        mount(kind, kind, target, "")?;
    }
    Ok(())
}

/// Makes the host's files our root, with a layer above them that takes our writes. Returns a
/// message for each file system that this kernel does not have.
pub fn host_root() -> Result<Vec<String>, String> {
    for directory in ["/host", "/layer", "/root"] {
        create(directory)?;
    }
    mount(SHARE, "virtiofs", "/host", "")?;
    mount("layer", "tmpfs", "/layer", "mode=755")?;
    for directory in ["/layer/upper", "/layer/work"] {
        create(directory)?;
    }
    mount(
        "root",
        "overlay",
        "/root",
        "lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work",
    )?;
    sys::change_root("/root").map_err(|error| format!("cannot change the root: {error}"))?;

    let mut warnings = Vec::new();
    for (kind, target, options) in MOUNTS {
        // Most directories are there; those below /dev are not.
        let result = create(target).and_then(|()| mount(kind, kind, target, options));
        warnings.extend(result.err());
    }
    Ok(warnings)
}

fn create(directory: &str) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("cannot create {directory}: {error}"))
}

fn mount(source: &str, kind: &str, target: &str, options: &str) -> Result<(), String> {
    sys::mount(source, target, kind, 0, options)
        .map_err(|error| format!("cannot mount {kind} on {target}: {error}"))
}
