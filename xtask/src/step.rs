//! Long steps: one line when they begin, one when they end, the rest in a log.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::cache;

/// How much of a failed step's log is shown.
const TAIL_LINES: usize = 20;

/// Runs `command`; `log` names its log file, `expected` says how long it takes.
pub fn run(log: &str, title: &str, expected: &str, command: &mut Command) -> Result<()> {
    let path = cache::directory("logs")?.join(format!("{log}.log"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let errors = file.try_clone().context("cannot share the log file")?;

    eprintln!("{title} ({expected}) …");
    let started = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let seconds = started.elapsed().as_secs_f64();
    if !status.success() {
        bail!(
            "{title}: failed after {seconds:.1} s with {status}; the log is {} and ends:\n{}",
            path.display(),
            tail(&path)
        );
    }
    eprintln!("{title}: done in {seconds:.1} s");
    Ok(())
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&text), TAIL_LINES)
}

/// The last `count` lines of `text`, indented, without empty ones.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let first = lines.len().saturating_sub(count);
    let lines: Vec<String> = lines[first..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn keeps_the_end() {
        assert_eq!(last_lines("a\n\nb\nc\n", 2), "  b\n  c");
        assert_eq!(last_lines("a\n", 5), "  a");
        assert_eq!(last_lines("", 5), "");
    }
}
