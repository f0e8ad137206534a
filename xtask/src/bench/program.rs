//! The C programs that are measured.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cargo;

const NAMES: &[&str] = &[
    "pingpong",
    "sends",
    "firehose",
    "calls",
    "delayed_senders",
    "load",
];

/// Where they are, compiled.
pub struct Programs(PathBuf);

impl Programs {
    /// Compiles them.
    pub fn build() -> Result<Self> {
        let directory = cargo::target_directory().join("bench");
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let sources = cargo::workspace_root().join("injector/tests/targets");
        for name in NAMES {
            let status = Command::new("cc")
                .args(["-std=c11", "-O2", "-Wall", "-pthread", "-o"])
                .arg(directory.join(name))
                .arg(sources.join(format!("{name}.c")))
                .status()
                .context("cannot start cc")?;
            ensure!(status.success(), "cc could not compile {name}.c: {status}");
        }
        Ok(Self(directory))
    }

    /// They have been compiled, into this directory.
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_path_buf())
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// One of them with arguments; it is to wait for [`Program::go`].
    pub fn command(&self, name: &str, arguments: &str) -> Command {
        let mut command = Command::new(self.0.join(name));
        command
            .args(arguments.split_whitespace())
            .arg("--start-on-stdin");
        command
    }
}

/// One that runs; killed when this is dropped.
pub struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Process ids and ports, see README.md beside the programs.
    ready: Vec<u32>,
}

impl Program {
    /// Starts it, or a tool that runs it, and waits until it is ready.
    pub fn start(mut command: Command) -> Result<Self> {
        let what = command.get_program().display().to_string();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let mut program = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            ready: Vec::new(),
        };
        let line = program.line()?;
        program.ready = line
            .strip_prefix("ready ")
            .with_context(|| format!("{what} is not ready: it said {line:?}"))?
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{what} said {line:?}"))?;
        Ok(program)
    }

    /// The process that sends.
    pub fn pid(&self) -> u32 {
        self.ready[0]
    }

    /// Where it listens, if it says so.
    pub fn port(&self) -> Result<u32> {
        let port = self.ready.get(1).copied();
        port.context("the measured program named no port")
    }

    /// `--pid` of all its processes that send, for a ping-pong.
    pub fn both_pids(&self) -> String {
        format!("--pid {} --pid {}", self.ready[0], self.ready[1])
    }

    /// Lets it begin.
    pub fn go(&mut self) -> Result<()> {
        self.say("")
    }

    /// Tells one that listens while it runs.
    pub fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").with_context(|| format!("cannot say {line:?}"))
    }

    /// The same; returns what it answers.
    pub fn ask(&mut self, line: &str) -> Result<Value> {
        self.say(line)?;
        self.answer()
    }

    /// Waits for its end and returns what it says about itself.
    pub fn finish(mut self) -> Result<Value> {
        let said = self.answer()?;
        let status = self.child.wait().context("cannot wait for the program")?;
        ensure!(status.success(), "the measured program ended with {status}");
        Ok(said)
    }

    fn answer(&mut self) -> Result<Value> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .context("cannot read from the measured program")?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when it is gone already. When a tool runs it, the
        // program itself sees its stdin closed, or its alarm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of a program's or the injector's JSON.
pub fn number(value: &Value, pointer: &str) -> Result<f64> {
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("there is no number {pointer} in {value}"))
}
