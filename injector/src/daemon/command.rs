//! The command behind `--`: started, made a target, and only then let go.

use std::{
    ffi::{CString, OsString},
    io::{self, Read as _, Write as _},
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::{ffi::OsStringExt as _, net::UnixStream},
    },
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, execvp, fork, pipe2, read, write},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    kernel::mounts::HostMounts,
    sleeper::parent::{self, Parent},
};

/// What a shell returns when a command cannot be executed.
pub const CANNOT_EXECUTE: u8 = 127;

/// The command could not be executed.
#[derive(Debug, thiserror::Error)]
#[error("cannot execute {name}: {}", errno.desc())]
pub struct CannotExecute {
    name: String,
    errno: Errno,
}

/// A child that waits for its start, runs, or has ended.
pub struct Command {
    pid: Pid,
    /// Our own child: the command, or its parent, which ends as it does.
    child: Pid,
    parent: Option<Parent>,
    go: Option<OwnedFd>,
    failed: OwnedFd,
    name: String,
    ended: Option<i32>,
}

impl Command {
    /// Forks a child that waits. Must run while the process has one thread:
    /// the child of a fork may only do what is safe after one.
    ///
    /// `with_parent`: as the child of a process between it and this one.
    pub fn prepare(words: &[OsString], mounts: &HostMounts, with_parent: bool) -> Result<Self> {
        let name = words.first().context("no command after --")?;
        let name = name.to_string_lossy().into_owned();
        let arguments = words
            .iter()
            .map(|word| CString::new(word.clone().into_vec()))
            .collect::<Result<Vec<_>, _>>()
            .context("a word of the command has a zero byte in it")?;
        let (wait, go) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        let (failed, report) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        let begin = |go: OwnedFd| -> ! {
            drop(go);
            execute(&arguments, &wait, &report, mounts)
        };
        let mut command = Self {
            pid: Pid::from_raw(0),
            child: Pid::from_raw(0),
            parent: None,
            go: None,
            failed,
            name,
            ended: None,
        };
        if !with_parent {
            // SAFETY: single-threaded, see above.
            match unsafe { fork() }.context("cannot fork")? {
                ForkResult::Child => begin(go),
                ForkResult::Parent { child } => (command.pid, command.child) = (child, child),
            }
            command.go = Some(go);
            return Ok(command);
        }
        let (mut socket, mut theirs) = UnixStream::pair().context("cannot make a socket")?;
        // SAFETY: single-threaded, see above.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => command.child = child,
            ForkResult::Child => {
                drop(socket);
                // SAFETY: as above.
                match unsafe { fork() } {
                    Ok(ForkResult::Child) => {
                        drop(theirs);
                        begin(go)
                    }
                    Ok(ForkResult::Parent { child }) => {
                        // The ends of these pipes tell how the command fares.
                        drop((go, wait, report, command));
                        let _ = theirs.write_all(&child.as_raw().to_ne_bytes());
                        parent::serve(theirs, child)
                    }
                    Err(_) => std::process::exit(CANNOT_EXECUTE.into()),
                }
            }
        }
        drop(theirs);
        let mut pid = [0; 4];
        socket
            .read_exact(&mut pid)
            .context("the command's parent has not started")?;
        command.pid = Pid::from_raw(i32::from_ne_bytes(pid));
        command.parent = Some(Parent::new(socket, command.child.as_raw() as u32));
        command.go = Some(go);
        Ok(command)
    }

    /// Its parent, if it has one of its own.
    pub fn take_parent(&mut self) -> Option<Parent> {
        self.parent.take()
    }

    /// Its process id, the same before and after it executes.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Lets it execute; an error if that failed.
    pub fn start(&mut self) -> Result<()> {
        let go = self
            .go
            .take()
            .context("the command has been started already")?;
        write(&go, &[1]).context("the child that was to run the command is gone")?;
        drop(go);
        // The other end closes when the program executes. Ours has a copy of
        // the child's end, which was dropped at the end of `prepare`.
        let mut error = [0; 4];
        if read(&self.failed, &mut error).unwrap_or(0) == error.len() {
            let errno = Errno::from_raw(i32::from_ne_bytes(error));
            let name = self.name.clone();
            return Err(CannotExecute { name, errno }.into());
        }
        Ok(())
    }

    /// Waits for its end and returns the exit code as a shell would: its own,
    /// or 128 and the number of the signal that ended it.
    pub async fn wait(&mut self) -> Result<i32> {
        // SAFETY: the system call takes a pid and flags, and returns a new
        // descriptor that nobody else owns.
        let descriptor = unsafe {
            let raw = libc::syscall(libc::SYS_pidfd_open, self.child.as_raw(), 0);
            if raw < 0 {
                return Err(io::Error::last_os_error()).context("cannot watch the command");
            }
            OwnedFd::from_raw_fd(raw as i32)
        };
        // SAFETY: the descriptor is owned by the `AsyncFd` until its end.
        let descriptor =
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE)? };
        loop {
            if let Some(code) = self.poll()? {
                return Ok(code);
            }
            descriptor.readable().await?.clear_ready();
        }
    }

    /// Its exit code if it has ended.
    fn poll(&mut self) -> Result<Option<i32>> {
        if self.ended.is_none() {
            self.ended = match waitpid(self.child, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => Some(code),
                WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
                _ => None,
            };
        }
        Ok(self.ended)
    }

    /// Passes a signal on, when we were asked to end and the command was not.
    pub fn pass(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill(self.pid, signal);
        }
    }
}

/// Waits for its start and becomes the command.
fn execute(arguments: &[CString], wait: &OwnedFd, report: &OwnedFd, mounts: &HostMounts) -> ! {
    let mut byte = [0];
    // An end of file: the parent gave up or died.
    if read(wait, &mut byte) != Ok(1) {
        std::process::exit(CANNOT_EXECUTE.into());
    }
    let _ = mounts.leave();
    let _ = SigSet::empty().thread_set_mask();
    let error = match execvp(&arguments[0], arguments) {
        Ok(never) => match never {},
        Err(errno) => errno as i32,
    };
    let _ = write(report, &error.to_ne_bytes());
    std::process::exit(CANNOT_EXECUTE.into())
}

impl Drop for Command {
    /// A child that was never started ends by itself when the pipe closes.
    fn drop(&mut self) {
        if self.go.take().is_some() {
            let _ = waitpid(self.child, None);
        }
    }
}
