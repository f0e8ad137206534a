//! The built-in client of `demo` and `doctor`, in a process of its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// What its sends took, each on average.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Time, in nanoseconds.
    pub ns: u64,
    /// CPU time of the thread that sends, in nanoseconds.
    pub cpu_ns: u64,
}

/// A child process that sends to itself; it ends when this is dropped.
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    sends: u64,
}

impl Client {
    /// Starts it and waits until it is ready to send. With 0 for `sends` it goes on
    /// until it is dropped.
    pub fn start(sends: u64, gap: Duration) -> Result<Self> {
        // The program that runs, even if its file has been replaced.
        let mut child = Command::new("/proc/self/exe")
            .args(["workload", "--sends", &sends.to_string()])
            .args(["--gap", &format!("{}ns", gap.as_nanos())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the built-in client")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let mut client = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            sends,
        };
        let ready = client.line()?;
        ensure!(
            ready == "ready",
            "the built-in client does not start ({ready:?})"
        );
        Ok(client)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it send.
    pub fn go(&mut self) -> Result<()> {
        writeln!(self.stdin).context("cannot talk to the built-in client")
    }

    /// Lets it send, to its end.
    pub fn send(mut self) -> Result<Sent> {
        self.go()?;
        let line = self.line()?;
        let numbers: Vec<u64> = line.split(' ').flat_map(str::parse).collect();
        match numbers[..] {
            [sends, busy_ns, cpu_ns] if sends == self.sends && sends > 0 => Ok(Sent {
                ns: (busy_ns + sends / 2) / sends,
                cpu_ns: (cpu_ns + sends / 2) / sends,
            }),
            _ => bail!("the built-in client ended early ({line:?})"),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .context("cannot read from the built-in client")?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended, or nobody needs it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
