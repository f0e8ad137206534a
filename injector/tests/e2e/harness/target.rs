//! A program that is traced: started, ready, let go, and asked what it saw.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::programs;

/// A running program. Dropping it kills it.
pub struct Target {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Its process id.
    pub pid: u32,
    /// The port of its receiver, 0 without one.
    pub port: u16,
}

impl Target {
    /// Starts a program that waits for [`Self::go`].
    pub fn start(name: &str, arguments: &str) -> Self {
        Self::start_with(name, arguments, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(name: &str, arguments: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(programs::path(name));
        command
            .args(arguments.split_whitespace())
            .envs(environment.iter().copied());
        if name != "sleeper" {
            command.arg("--start-on-stdin");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("its stdout"));
        let mut target = Self {
            pid: child.id(),
            child,
            stdin,
            stdout,
            port: 0,
        };
        let ready = target.line();
        let mut words = ready.split_whitespace();
        assert_eq!(words.next(), Some("ready"), "{name} {arguments}: {ready}");
        target.port = words.last().and_then(|word| word.parse().ok()).unwrap_or(0);
        target
    }

    /// Its next line of output, empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("a line of a target");
        line.trim_end().to_owned()
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        self.say("go");
    }

    /// Writes a line to its stdin.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its stdin");
        writeln!(stdin, "{line}").expect("a target that listens");
    }

    /// Whether it runs; it has been waited for if not.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it has ended.
    pub fn status(&mut self) -> ExitStatus {
        self.child.wait().expect("the end of a target")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid as i32), signal);
    }

    /// Waits for its end and returns what it tells.
    pub fn finish(mut self) -> Value {
        let mut last = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            last = line;
        }
        let status = self.child.wait().expect("the end of a target");
        serde_json::from_str(&last)
            .unwrap_or_else(|error| panic!("a target ended with {status} and {last:?}: {error}"))
    }

    /// Lets it run to its end.
    pub fn run(mut self) -> Value {
        self.go();
        self.finish()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
