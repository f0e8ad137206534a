//! An injector that runs beside what is measured.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long the first record may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which of its lines are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Sends and the summary.
    All,
    /// Only the summary, so that reading costs least.
    Summary,
}

/// An injector whose hooks are attached.
pub struct Attached {
    child: Child,
    started: Instant,
    /// From its start to the line that says so.
    pub ready: Duration,
    first_line: Arc<OnceLock<Instant>>,
    lines: Option<JoinHandle<io::Result<Vec<String>>>>,
    said: Option<JoinHandle<String>>,
}

impl Attached {
    /// Starts it and waits until its hooks are attached. It writes JSON.
    pub fn start(injector: &Path, arguments: &str, keep: Keep) -> Result<Self> {
        let mut command = Command::new(injector);
        command.args(["--output", "json", "--quiet"]);
        Self::run(command, arguments, keep)
    }

    /// Starts `injector maps` and waits until its probes are attached.
    pub fn maps(injector: &Path, arguments: &str) -> Result<Self> {
        let mut command = Command::new(injector);
        command.args(["maps", "--output", "json"]);
        Self::run(command, arguments, Keep::All)
    }

    fn run(mut command: Command, arguments: &str, keep: Keep) -> Result<Self> {
        let started = Instant::now();
        let mut child = command
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            unreachable!("both were asked for");
        };
        let first_line = Arc::new(OnceLock::new());
        let seen = Arc::clone(&first_line);
        let lines = thread::spawn(move || read(stdout, keep, &seen));
        let mut this = Self {
            child,
            started,
            ready: Duration::ZERO,
            first_line,
            lines: Some(lines),
            said: None,
        };

        let mut stderr = BufReader::new(stderr);
        let mut said = String::new();
        loop {
            let from = said.len();
            if stderr.read_line(&mut said).context("stderr of injector")? == 0 {
                bail!("injector {arguments}: {}", said.trim());
            }
            if said[from..].starts_with("injector: attached") {
                break;
            }
        }
        this.ready = started.elapsed();
        // Else it would block on a full pipe, or die of a closed one.
        this.said = Some(thread::spawn(move || last_line(stderr)));
        Ok(this)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From its start to its first line on stdout; waits for it.
    pub fn first_line(&self) -> Result<Duration> {
        loop {
            if let Some(at) = self.first_line.get() {
                return Ok(*at - self.started);
            }
            ensure!(
                self.started.elapsed() < PATIENCE,
                "injector wrote nothing for {} s",
                PATIENCE.as_secs()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops it; returns what it wrote, the summary last.
    pub fn finish(mut self) -> Result<Vec<Value>> {
        // SAFETY: sends a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let status = self.child.wait().context("cannot wait for injector")?;
        if !status.success() {
            let said = self.said.take().map(JoinHandle::join);
            let said = said.and_then(Result::ok).unwrap_or_default();
            bail!("injector ended with {status}: {said}");
        }
        let lines = self.lines.take().map(JoinHandle::join);
        let Some(Ok(lines)) = lines else {
            bail!("the thread that reads injector's output is gone");
        };
        lines
            .context("cannot read what injector writes")?
            .iter()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
            .collect()
    }

    /// Stops it; returns its summary.
    pub fn summary(self) -> Result<Value> {
        let last = self.finish()?.pop();
        last.context("injector wrote no summary")
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_line(stderr: impl BufRead) -> String {
    let mut last = String::new();
    for line in stderr.lines().map_while(Result::ok) {
        last = line;
    }
    last
}

fn read(stdout: impl Read, keep: Keep, first: &OnceLock<Instant>) -> io::Result<Vec<String>> {
    let mut stdout = BufReader::with_capacity(1 << 16, stdout);
    let mut kept = Vec::new();
    let mut line = String::new();
    while stdout.read_line(&mut line)? > 0 {
        first.get_or_init(Instant::now);
        if keep == Keep::All || line.starts_with(r#"{"type":"summary""#) {
            kept.push(line.clone());
        }
        line.clear();
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_summary_is_kept_when_asked() {
        let output = "{\"type\":\"send\"}\n{\"type\":\"summary\",\"a\":1}\n";
        let first = OnceLock::new();
        let all = read(output.as_bytes(), Keep::All, &first).unwrap();
        assert_eq!(all.len(), 2);
        assert!(first.get().is_some());
        let summary = read(output.as_bytes(), Keep::Summary, &first).unwrap();
        assert_eq!(summary, ["{\"type\":\"summary\",\"a\":1}\n"]);
    }
}
