//! The daemon that shows the host's files to the guest.

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::child::Child;

/// QEMU's own, in C, up to bookworm.
const IN_C: &str = "/usr/lib/qemu/virtiofsd";
/// Its successor in Rust.
const IN_RUST: &[&str] = &["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"];

/// Finds the daemon on this machine.
pub fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    IN_RUST
        .iter()
        .map(PathBuf::from)
        .chain(env::split_paths(&path).map(|directory| directory.join("virtiofsd")))
        .chain([IN_C.into()])
        .find(|candidate| candidate.is_file())
}

/// Starts a daemon that serves the host's root on `socket` and complains to the file `log`: it
/// calls the normal end of a machine an error, which is nothing to show to anybody.
pub fn start(socket: &Path, log: &Path) -> Result<Child> {
    let program = find().context("virtiofsd is not installed; run `cargo xtask setup`")?;
    let log = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new(&program);
    command
        .arg(format!("--socket-path={}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    // Nothing changes the host's files under a guest on purpose, so both may cache.
    if program == Path::new(IN_C) {
        command.args(["-o", "source=/,sandbox=chroot,cache=always,log_level=err"]);
    } else {
        command.args(["--shared-dir=/", "--sandbox=chroot", "--cache=always"]);
        command.args(["--log-level=error"]);
    }
    Child::spawn("virtiofsd", &mut command)
}
