//! `--hold-on-fatal`: the daemon's half. The kernel side stops the process at
//! its fatal error; a watchdog lets it go on, and so does the daemon, each of
//! them also when the other is gone.

use std::{
    io::{BufRead as _, BufReader},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, unix::AsyncFd};

use super::watchdog;
use crate::{clock, kernel::tracer::HoldMaps, target::process::Process};

/// Longer than anybody looks, and than anything that waits for the process
/// should have to.
const LONGEST: Duration = Duration::from_mins(1);
/// How long the watchdog may take to start, in an emulated machine too.
const START: Duration = Duration::from_secs(15);
/// The watchdog's time to do it first.
const LATER: Duration = Duration::from_millis(50);
/// How long all threads may take to stop: some milliseconds are usual.
const STOPPING: Duration = Duration::from_millis(50);

/// A process that will be, or is, stopped.
pub struct Hold {
    target: Process,
    process: OwnedFd,
    maps: HoldMaps,
    index: u32,
    time: Duration,
    watchdog: Child,
    socket: AsyncFd<UnixStream>,
    guarded: bool,
    until: Option<Instant>,
}

impl Hold {
    /// Starts the watchdog and has the process stopped at its fatal error from
    /// then on.
    ///
    /// # Errors
    ///
    /// It cannot be guaranteed that the process goes on.
    pub fn start(pid: u32, index: u16, time: Duration, maps: HoldMaps) -> Result<Self> {
        Self::try_start(pid, u32::from(index), time, maps)
            .context("--hold-on-fatal is refused: nothing could be sure to let the process go on")
    }

    fn try_start(pid: u32, index: u32, time: Duration, maps: HoldMaps) -> Result<Self> {
        ensure!(!time.is_zero() && time <= LONGEST, "it takes 1ns to 1m");
        let target = Process { pid };
        ensure!(pid != 1, "the kernel does not let process 1 be stopped");
        is_free(target)?;
        let process = watchdog::open(pid)?;
        let (socket, theirs) = UnixStream::pair().context("cannot make a socket")?;
        let orders = [
            ("--pid", u64::from(pid)),
            ("--hold-ns", time.as_nanos() as u64),
            ("--target", u64::from(index)),
            ("--armed", u64::from(maps.armed_id()?)),
            ("--holds", u64::from(maps.holds_id()?)),
            ("--bell", u64::from(maps.bell_id()?)),
        ];
        let mut child = Command::new("/proc/self/exe")
            .arg0(watchdog::NAME)
            .arg("hold-watchdog")
            .args(orders.map(|(flag, value)| format!("{flag}={value}")))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the watchdog")?;
        let ready = hear(&socket).and_then(|()| {
            socket.set_nonblocking(true)?;
            // The watchdog has looked at the process by its number: it is still
            // the same one.
            ensure!(!is_gone(&process)?, "the process has ended");
            is_free(target)?;
            // SAFETY: the socket owns its descriptor and stays in the `AsyncFd`.
            Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE)? })
        });
        let socket = match ready {
            Ok(socket) => socket,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let mut hold = Self {
            target,
            process,
            maps,
            index,
            time,
            watchdog: child,
            socket,
            guarded: true,
            until: None,
        };
        hold.maps.arm(hold.index, true)?;
        Ok(hold)
    }

    /// How long the process is stopped, in nanoseconds.
    pub fn time_ns(&self) -> u64 {
        self.time.as_nanos() as u64
    }

    /// The process was stopped at this time of the kernel's clock. Waits until
    /// its threads have come to a stop, and returns where each is.
    pub fn begun(&mut self, since_ns: u64) -> Vec<(u32, u64)> {
        let gone_by = Duration::from_nanos(clock::monotonic_ns().saturating_sub(since_ns));
        self.until = Some(Instant::now() + self.time.saturating_sub(gone_by));
        let end = Instant::now() + STOPPING;
        while !self.target.is_stopped() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        self.target.instructions()
    }

    /// Waits until there is something to tell: the process goes on, or the
    /// watchdog is gone, and then it goes on at once.
    pub async fn news(&mut self) -> Result<&'static str> {
        let deadline = self.until.map(|until| until + LATER);
        tokio::select! {
            // It never says anything, so this is its end.
            ready = self.socket.readable(), if self.guarded => {
                ready?.retain_ready();
                self.guarded = false;
                let was_held = self.until.take().is_some();
                self.let_go()?;
                let _ = self.watchdog.wait();
                Ok(if was_held {
                    "the watchdog of --hold-on-fatal is gone, so the process goes on now"
                } else {
                    "the watchdog of --hold-on-fatal is gone, so the process will not be held"
                })
            }
            () = super::run::until(deadline) => {
                self.until = None;
                watchdog::release(self.target.pid, &self.process);
                Ok("the process goes on")
            }
        }
    }

    /// From now on nothing stops it; what did is undone.
    fn let_go(&mut self) -> Result<()> {
        self.maps.arm(self.index, false)?;
        // A program that stops it can be on its way.
        thread::sleep(LATER);
        if self.maps.is_claimed(self.index)? {
            watchdog::release(self.target.pid, &self.process);
        }
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // The watchdog does the same when the socket closes, which it does now.
        if self.guarded {
            let _ = self.let_go();
            let _ = self.watchdog.kill();
            let _ = self.watchdog.wait();
        }
    }
}

/// Nobody else decides whether it runs.
fn is_free(target: Process) -> Result<()> {
    if let Some(tracer) = target.tracer() {
        bail!("process {tracer} traces it already, such as a debugger or strace");
    }
    ensure!(
        !matches!(target.state(), Some('T' | 't')),
        "it is stopped already, by somebody else"
    );
    Ok(())
}

fn is_gone(process: &OwnedFd) -> Result<bool> {
    let mut events = [PollFd::new(process, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut events, Some(&now))?;
    Ok(!events[0].revents().is_empty())
}

/// The watchdog's first line.
fn hear(socket: &UnixStream) -> Result<()> {
    socket.set_read_timeout(Some(START))?;
    let mut line = String::new();
    BufReader::new(socket)
        .read_line(&mut line)
        .context("the watchdog does not answer")?;
    match line.trim_end().split_once(' ') {
        None if line.trim_end() == watchdog::READY => Ok(()),
        Some((watchdog::FAILED, why)) => bail!("the watchdog says: {why}"),
        _ => bail!("the watchdog ended before it was ready"),
    }
}
