//! The sleep engine's userspace half: a *server* that keeps sleeping threads'
//! reads unanswered, and a *holder* that has the memory they read.
//!
//! Each death is noticed at once: the server ends when the daemon is about to
//! (`pulse.rs`), its socket closes or the holder's pipe does, the kernel kills the holder with the
//! server and the server with the daemon, and with the server's descriptor of
//! /dev/fuse every sleeper is let go.

mod fuse;
pub mod holder;
mod mount;
pub mod parent;
mod pulse;
mod queue;
pub mod server;
mod wake;

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// First word of the line that says that the holder is there.
const READY: &str = "ready";
/// First word of the line that says why there will be none.
const FAILED: &str = "failed";
/// One byte to and fro: the server is alive. Its answer has the number of
/// sleepers behind it.
const BEAT: u8 = b'b';
/// How long the server may take to start. Generous: an emulated machine needs
/// seconds to start two processes.
const START: Duration = Duration::from_secs(15);
/// Between two looks at an end.
const LOOK: Duration = Duration::from_millis(5);

/// A running server, killed when dropped.
pub struct Sleeper {
    process: Child,
    socket: UnixStream,
    /// Questions in a row without an answer.
    unanswered: u32,
    /// The process that has the page.
    pub holder_pid: u32,
    /// Where it has it.
    pub address: u64,
}

impl Sleeper {
    /// Starts server and holder for the maps with these ids.
    pub fn start(sleeps: u32, control: u32) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair().context("cannot make a socket")?;
        let mut process = Command::new("/proc/self/exe")
            .arg0("injector")
            .arg("sleep-server")
            .args(["--sleeps", &sleeps.to_string()])
            .args(["--control", &control.to_string()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the server of the sleep engine")?;
        let ready = hear_ready(&socket).and_then(|ready| {
            socket.set_nonblocking(true)?;
            Ok(ready)
        });
        match ready {
            Ok((holder_pid, address)) => Ok(Self {
                process,
                socket,
                unanswered: 0,
                holder_pid,
                address,
            }),
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(error)
            }
        }
    }

    /// Whether the server lives and answers; asks it again. One that has not
    /// answered for two calls is hung, and is ended, because threads that wait for
    /// it cannot be killed. Two, because after a pause of the whole machine we may
    /// be here before it has had the CPU.
    ///
    /// # Errors
    ///
    /// It is gone, or was ended.
    pub fn check(&mut self) -> Result<()> {
        if self.beats()?.is_some() {
            self.unanswered = 0;
        }
        if self.unanswered == 2 {
            self.kill();
            bail!("its server did not answer and was ended");
        }
        self.unanswered += 1;
        self.ask()
    }

    /// The lease is over: waits until the server has let everybody go.
    ///
    /// # Errors
    ///
    /// It is gone, or has sleepers left after `patience`.
    pub fn release(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut left = u32::MAX;
        while Instant::now() < deadline {
            self.ask()?;
            thread::sleep(LOOK);
            left = self.beats()?.unwrap_or(left);
            if left == 0 {
                // Threads that were woken just now have still to report.
                thread::sleep(LOOK);
                return Ok(());
            }
        }
        bail!("the server of the sleep engine keeps {left} threads asleep");
    }

    fn ask(&mut self) -> Result<()> {
        self.socket.write_all(&[BEAT]).context("its server is gone")
    }

    /// Reads the answers that have come; none if there are none. The last
    /// number of sleepers.
    fn beats(&mut self) -> Result<Option<u32>> {
        let mut sleepers = None;
        loop {
            let mut beat = [0; 5];
            match self.socket.read(&mut beat) {
                Ok(0) => bail!("its server has ended"),
                Ok(5) => {
                    sleepers = Some(u32::from_ne_bytes([beat[1], beat[2], beat[3], beat[4]]));
                }
                Ok(_) => bail!("its server says what makes no sense"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(sleepers),
                Err(error) => bail!("its server is gone: {error}"),
            }
        }
    }

    /// Ends what is left of it, and waits until the threads that were let go
    /// have had time to report.
    pub fn stop(&mut self) {
        self.kill();
        thread::sleep(LOOK);
    }

    /// Ends the server, hung or not; every sleeper is let go.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `ready PID ADDRESS`.
fn hear_ready(socket: &UnixStream) -> Result<(u32, u64)> {
    socket.set_read_timeout(Some(START))?;
    let mut line = String::new();
    BufReader::new(socket)
        .read_line(&mut line)
        .context("the server of the sleep engine does not answer")?;
    parse_ready(line.trim_end())
}

fn parse_ready(line: &str) -> Result<(u32, u64)> {
    match line.split_once(' ') {
        Some((FAILED, why)) => bail!("{why}"),
        Some((READY, numbers)) => {
            let (pid, address) = numbers.split_once(' ').context("no address")?;
            Ok((pid.parse()?, address.parse()?))
        }
        // It has said why on stderr.
        _ => bail!("the server of the sleep engine ended before it was ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_where_the_page_is_or_why_there_is_none() {
        assert_eq!(parse_ready("ready 12 4096").unwrap(), (12, 4096));
        let why = parse_ready("failed cannot open /dev/fuse").unwrap_err();
        assert_eq!(why.to_string(), "cannot open /dev/fuse");
        for line in ["", "ready", "ready 12", "ready x 1"] {
            assert!(parse_ready(line).is_err(), "{line}");
        }
    }
}
