//! The watchdog of `--hold-on-fatal`: a process that lets a stopped target go
//! on when its time is over, whatever has become of the daemon. It is in a
//! session of its own, and its name does not say injector, so that who kills
//! `injector` by name does not meet both.

use std::{
    fs,
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use injector_ebpf::go::Hold;
use nix::sys::signal::{SigHandler, Signal as NixSignal, signal};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setsid, test_kill_process},
};

use crate::{clock, target::process::Process};

/// What the process is called.
pub const NAME: &str = "hold-guard";
/// First word when it is there.
pub const READY: &str = "ready";
/// First word when it says why it cannot be.
pub const FAILED: &str = "failed";
/// A program that stops the target can be on its way when that is taken back.
const LATE: Duration = Duration::from_millis(50);
/// Between two looks at whether the target goes on.
const LOOK: Duration = Duration::from_millis(5);
/// Looks before it is left alone: who stopped it then was somebody else.
const LOOKS: u32 = 40;

/// Whom it watches.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// Process id of the target.
    pub pid: u32,
    /// How long it may be stopped, in nanoseconds.
    pub hold_ns: u64,
    /// Its index in the kernel's tables.
    pub target: u32,
    /// Id of the map that says whether it is to be stopped.
    pub armed: u32,
    /// Id of the map that says since when it is.
    pub holds: u32,
    /// Id of the ring that is written to when it is.
    pub bell: u32,
}

/// Watches until the target or the daemon is gone. The daemon's socket is our
/// stdin.
pub fn run(orders: Orders) -> Result<u8> {
    let mut daemon = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    match Watchdog::start(orders) {
        Ok(mut watchdog) => {
            writeln!(daemon, "{READY}").context("the daemon is gone")?;
            watchdog.serve(&daemon).map(|()| 0)
        }
        Err(error) => {
            writeln!(daemon, "{FAILED} {error:#}").context("the daemon is gone")?;
            Ok(1)
        }
    }
}

struct Watchdog {
    orders: Orders,
    process: OwnedFd,
    armed: Array<MapData, u64>,
    holds: Array<MapData, Hold>,
    bell: MapData,
    released: bool,
}

impl Watchdog {
    fn start(orders: Orders) -> Result<Self> {
        setsid().context("cannot start a session")?;
        let name = std::ffi::CString::new(NAME)?;
        rustix::thread::set_name(&name)?;
        for name in [
            NixSignal::SIGINT,
            NixSignal::SIGTERM,
            NixSignal::SIGHUP,
            NixSignal::SIGQUIT,
        ] {
            // SAFETY: no handler is installed.
            unsafe { signal(name, SigHandler::SigIgn) }.context("cannot ignore signals")?;
        }
        // Neither load nor want of memory is to be in its way; without the right
        // to ask for that, it runs as any other.
        let _ = rustix::process::setpriority_process(None, -20);
        let _ = fs::write("/proc/self/oom_score_adj", "-1000");
        let map = |id: u32| MapData::from_id(id).with_context(|| format!("cannot open map {id}"));
        let array = |id: u32| -> Result<Map> { Ok(Map::Array(map(id)?)) };
        Ok(Self {
            orders,
            process: open(orders.pid)?,
            armed: Array::try_from(array(orders.armed)?)?,
            holds: Array::try_from(array(orders.holds)?)?,
            bell: map(orders.bell)?,
            released: false,
        })
    }

    fn serve(&mut self, daemon: &UnixStream) -> Result<()> {
        loop {
            let since = self.hold()?.since_ns;
            let mut left = None;
            if since != 0 && !self.released {
                let due = since.saturating_add(self.orders.hold_ns);
                let now = clock::monotonic_ns();
                if now >= due {
                    self.release();
                } else {
                    left = Some(timespec(due - now));
                }
            }
            let mut events = [
                PollFd::new(daemon, PollFlags::IN),
                PollFd::new(&self.process, PollFlags::IN),
                PollFd::from_borrowed_fd(self.bell.fd().as_fd(), PollFlags::IN),
            ];
            // Nobody reads the ring, so it is heard once.
            let listened = if since == 0 { 3 } else { 2 };
            match poll(&mut events[..listened], left.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.context("cannot wait")?,
            };
            let [daemon_gone, target_gone, _] = events.map(|event| !event.revents().is_empty());
            if target_gone {
                return Ok(());
            }
            // It never writes anything.
            if daemon_gone {
                self.armed.set(self.orders.target, 0, 0)?;
                thread::sleep(LATE);
                if self.hold()?.claims != 0 && !self.released {
                    self.release();
                }
                return Ok(());
            }
        }
    }

    fn hold(&self) -> Result<Hold> {
        let hold = self.holds.get(&self.orders.target, 0);
        hold.context("cannot read whether the process is held")
    }

    fn release(&mut self) {
        self.released = true;
        release(self.orders.pid, &self.process);
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    }
}

/// A process that we may signal, whatever becomes of its number.
pub fn open(pid: u32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid as i32).context("no such process")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).context("the kernel gives no pidfd")?;
    test_kill_process(pid).context("it cannot be sent a signal")?;
    Ok(process)
}

/// Lets a stopped process go on, and looks whether it does: the signal that
/// stops it can come after the one that lets it go on.
pub fn release(pid: u32, process: &OwnedFd) {
    for _ in 0..LOOKS {
        // It is gone, then.
        if pidfd_send_signal(process, Signal::CONT).is_err() {
            return;
        }
        thread::sleep(LOOK);
        if (Process { pid }).state() != Some('T') {
            return;
        }
    }
}
