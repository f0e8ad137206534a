//! A FUSE file system that is one file and is mounted nowhere.
//!
//! The new mount API (Linux 5.2) makes a mount that only its descriptor
//! names: no mount table shows it, and it goes with its last user.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::fuse::FILE_MODE;

/// Opens a connection. Returns the device and the mount.
pub fn open() -> Result<(File, OwnedFd)> {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .context("cannot open /dev/fuse (is the fuse module there? `modprobe fuse` loads it)")?;
    let filesystem =
        fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).context("cannot open a FUSE file system")?;
    for (key, value) in [
        ("source", "injector".to_owned()),
        ("fd", device.as_raw_fd().to_string()),
        ("rootmode", format!("{FILE_MODE:o}")),
        ("user_id", "0".to_owned()),
        ("group_id", "0".to_owned()),
    ] {
        fsconfig_set_string(&filesystem, key, &*value)
            .with_context(|| format!("cannot set the FUSE option {key}={value}"))?;
    }
    fsconfig_create(&filesystem).context("cannot create a FUSE file system")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .context("cannot mount a FUSE file system")?;
    rustix::io::ioctl_fionbio(&device, true)
        .map_err(io::Error::from)
        .context("cannot make /dev/fuse non-blocking")?;
    Ok((device, mount))
}
