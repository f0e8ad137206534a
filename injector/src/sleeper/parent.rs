//! The parent of a command, as a holder. Before Linux 6.2 a program finds no
//! process by its id, but it can climb from a thread to its ancestors. So there the
//! command gets a parent between itself and the daemon, and threads of the command
//! and of its descendants can sleep.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::{
        signal::{SigHandler, Signal, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, pidfd_open, set_parent_process_death_signal},
};

use super::holder;

/// How long it may take to answer, in an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(15);

/// Such a parent, seen from the daemon.
pub struct Parent {
    socket: UnixStream,
    /// Its process id.
    pub pid: u32,
}

impl Parent {
    /// The process `pid`, which calls [`serve`] with the other end of `socket`.
    pub fn new(socket: UnixStream, pid: u32) -> Self {
        Self { socket, pid }
    }

    /// Has it map the file that the holder has; where it has it then.
    ///
    /// # Errors
    ///
    /// It is gone, or cannot.
    pub fn map(&mut self, holder_pid: u32) -> Result<u64> {
        self.socket.set_read_timeout(Some(PATIENCE))?;
        self.socket
            .write_all(&holder_pid.to_ne_bytes())
            .context("the command's parent is gone")?;
        let mut address = [0; 8];
        self.socket
            .read_exact(&mut address)
            .context("the command's parent does not answer")?;
        match u64::from_ne_bytes(address) {
            0 => bail!("the command's parent cannot map the sleep engine's file"),
            address => Ok(address),
        }
    }
}

/// Maps the file when it is asked to, waits for the end of `child`, and ends as
/// that did, as far as an exit code can say it.
pub fn serve(mut socket: UnixStream, child: Pid) -> ! {
    // What the terminal or the daemon says is meant for the command.
    for name in [
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGHUP,
    ] {
        // SAFETY: no handler is installed.
        let _ = unsafe { signal(name, SigHandler::SigIgn) };
    }
    let _ = rustix::thread::set_name(c"injector-parent");
    let code = watch(&mut socket, child).unwrap_or(1);
    std::process::exit(code)
}

fn watch(socket: &mut UnixStream, child: Pid) -> Result<i32> {
    // Without the daemon nobody asks what became of the command, which runs on.
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let pid = rustix::process::Pid::from_raw(child.as_raw()).context("no child")?;
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let mut listens = true;
    loop {
        // Once the file is mapped, nothing here asks for memory.
        let mut events = [
            PollFd::new(&end, PollFlags::IN),
            PollFd::new(&*socket, PollFlags::IN),
        ];
        let watched = if listens { 2 } else { 1 };
        match poll(&mut events[..watched], None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let [ended, asked] = events.map(|event| !event.revents().is_empty());
        if ended {
            return Ok(match waitpid(child, None)? {
                WaitStatus::Exited(_, code) => code,
                WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
                _ => 1,
            });
        }
        if asked {
            let mut holder_pid = [0; 4];
            listens = socket.read_exact(&mut holder_pid).is_ok();
            if listens {
                let path = format!("/proc/{}/fd/0", u32::from_ne_bytes(holder_pid));
                let address = holder::map(Path::new(&path)).unwrap_or(0) as u64;
                listens = false;
                let _ = socket.write_all(&address.to_ne_bytes());
            }
        }
    }
}
