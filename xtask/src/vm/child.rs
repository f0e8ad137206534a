//! A helper process that does not outlive us.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{self, Command, ExitStatus},
};

use anyhow::{Context as _, Result};

/// A process that is killed when this is dropped, and when we die without dropping it.
pub struct Child {
    name: &'static str,
    process: process::Child,
}

impl Child {
    /// Starts `command`; `name` is for messages.
    pub fn spawn(name: &'static str, command: &mut Command) -> Result<Self> {
        // SAFETY: the closure runs between fork and exec, and makes one system call, which
        // touches no memory, allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(
                || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                },
            );
        }
        let process = command
            .spawn()
            .with_context(|| format!("cannot start {name}; run `cargo xtask setup`"))?;
        Ok(Self { name, process })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
