//! The injector under test: started, attached, stopped, and what it wrote.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Send, eventually, programs};

/// Longer than any start or end takes, in an emulated machine too.
const PATIENCE: Duration = Duration::from_mins(1);

type Lines = Arc<Mutex<Vec<String>>>;

/// A running injector. Dropping it kills it.
pub struct Injector {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// An injector that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The sends that it wrote.
    pub sends: Vec<Send>,
    /// Its summary.
    pub summary: Option<Value>,
    /// What it wrote about maps: fatal errors and the summary.
    pub maps: Vec<Value>,
    /// What it concluded about maps: the report at the end.
    pub conclusions: Vec<Value>,
    /// Its lines on stdout.
    pub stdout: String,
    /// Its lines on stderr.
    pub stderr: String,
}

impl Injector {
    /// Starts it with JSON output of every send and waits until it is attached.
    pub fn start(arguments: &str) -> Self {
        Self::start_with(&format!("{arguments} --output json --all"))
    }

    /// Starts it with just these arguments and waits until it is attached.
    pub fn start_with(arguments: &str) -> Self {
        let injector = Self::spawn(arguments);
        injector.expect_line("injector: attached:");
        injector
    }

    /// Starts it.
    pub fn spawn(arguments: &str) -> Self {
        Self::spawn_command(Command::new(programs::INJECTOR).args(arguments.split_whitespace()))
    }

    /// Starts a command that is injector or becomes it.
    pub fn spawn_command(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("injector itself");
        let (stdout, out) = collect(child.stdout.take().expect("its stdout"));
        let (stderr, err) = collect(child.stderr.take().expect("its stderr"));
        Self {
            child,
            stdout,
            stderr,
            readers: vec![out, err],
        }
    }

    /// Runs it to its end.
    pub fn run(arguments: &str) -> Ended {
        Self::spawn(arguments).finish()
    }

    /// Runs it to its end; for arguments with spaces in them.
    pub fn run_words(words: &[&str]) -> Ended {
        Self::spawn_command(Command::new(programs::INJECTOR).args(words)).finish()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// Waits for a line on its stderr.
    pub fn expect_line(&self, part: &str) {
        let found = || text(&self.stderr).contains(part);
        let mut gone = false;
        let in_time = eventually(PATIENCE, || {
            gone = !self.is_running();
            found() || gone
        });
        // What a process that ended has written may still be on its way.
        let found = found() || (gone && eventually(Duration::from_secs(1), found));
        assert!(
            in_time && found,
            "injector did not say '{part}' but: {}",
            text(&self.stderr)
        );
    }

    /// The sends that it has written so far.
    pub fn sends(&self) -> Vec<Send> {
        parse(&self.stdout).0
    }

    /// Whether it has said this on its stderr.
    pub fn has_said(&self, part: &str) -> bool {
        text(&self.stderr).contains(part)
    }

    fn is_running(&self) -> bool {
        // A zombie is not running either.
        std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).is_ok_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with('Z'))
        })
    }

    /// Waits until it has written so many sends, or long enough.
    pub fn await_sends(&self, count: usize) {
        eventually(Duration::from_secs(10), || {
            let lines = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
            lines.len() >= count && parse_lines(&lines).0.len() >= count
        });
    }

    /// Ctrl-C.
    pub fn stop(self) -> Ended {
        self.signal(Signal::SIGINT);
        self.finish()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Ended {
        let ended = eventually(PATIENCE * 2, || !matches!(self.child.try_wait(), Ok(None)));
        assert!(
            ended,
            "injector does not end; it said: {}",
            text(&self.stderr)
        );
        let status = self.child.wait().expect("its exit status");
        for reader in self.readers.drain(..) {
            reader.join().expect("its output");
        }
        let (sends, summary) = parse(&self.stdout);
        let maps = about_maps(&self.stdout, &["fatal", "watch", "maps_summary"]);
        let conclusions = about_maps(&self.stdout, &["maps_report"]);
        Ended {
            code: status.code(),
            sends,
            summary,
            maps,
            conclusions,
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
        }
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// A number of the kernel side's, complete even when records were lost.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        self.summary()["counters"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Its summary, which every clean end has.
    #[track_caller]
    pub fn summary(&self) -> &Value {
        self.summary
            .as_ref()
            .unwrap_or_else(|| panic!("no summary, but: {}", self.stderr))
    }

    /// Fails unless it ended so.
    #[track_caller]
    pub fn expect_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
    }

    /// Fails unless its stderr says this.
    #[track_caller]
    pub fn expect_words(&self, words: &str) {
        assert!(
            self.stderr.contains(words),
            "'{words}' is not in: {}",
            self.stderr
        );
    }

    /// Fails unless its summary gives this as the reason of its end.
    #[track_caller]
    pub fn expect_ending(&self, words: &str) {
        let reason = &self.summary()["ended"];
        assert!(
            reason.as_str().is_some_and(|reason| reason.contains(words)),
            "'{words}' is not in: {reason}"
        );
    }

    /// The sends that a fault was delivered to.
    pub fn delivered(&self) -> impl Iterator<Item = &Send> {
        self.sends.iter().filter(|send| send.is_delivered())
    }
}

fn collect(from: impl Read + std::marker::Send + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Lines::default();
    let to = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
    (lines, reader)
}

fn about_maps(lines: &Lines, kinds: &[&str]) -> Vec<Value> {
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let starts: Vec<_> = kinds
        .iter()
        .map(|kind| format!(r#"{{"type":"{kind}""#))
        .collect();
    let of_maps = |line: &&String| starts.iter().any(|start| line.starts_with(start));
    let parsed = lines.iter().filter(of_maps);
    parsed
        .map(|line| serde_json::from_str(line).expect("an object as documented"))
        .collect()
}

fn text(lines: &Lines) -> String {
    lines
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .join("\n")
}

fn parse(lines: &Lines) -> (Vec<Send>, Option<Value>) {
    parse_lines(&lines.lock().unwrap_or_else(PoisonError::into_inner))
}

fn parse_lines(lines: &[String]) -> (Vec<Send>, Option<Value>) {
    let mut sends = Vec::new();
    let mut summary = None;
    for line in lines {
        if line.starts_with(r#"{"type":"send""#) {
            sends.push(serde_json::from_str(line).expect("a send as documented"));
        } else if line.starts_with(r#"{"type":"summary""#) {
            summary = Some(serde_json::from_str(line).expect("a summary as documented"));
        }
    }
    (sends, summary)
}
