//! Counts test results while they pass by.

use std::{
    io::{self, Write},
    ops::AddAssign,
};

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Tests that were not run.
    pub skipped: u32,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Reads the line that libtest and libtest-mimic end with:
/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
fn parse_line(line: &str) -> Option<Counts> {
    let (_, numbers) = line
        .trim()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split("; ") {
        match part.split_once(' ') {
            Some((number, "passed")) => counts.passed = number.parse().ok()?,
            Some((number, "failed")) => counts.failed = number.parse().ok()?,
            Some((number, "ignored")) => counts.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

/// Passes a test program's output on, and counts the results in it.
pub struct Tally<W> {
    to: W,
    line: Vec<u8>,
    counts: Counts,
    summaries: u32,
}

impl<W> Tally<W> {
    /// Passes the output on to `to`.
    pub fn new(to: W) -> Self {
        Self {
            to,
            line: Vec::new(),
            counts: Counts::default(),
            summaries: 0,
        }
    }

    /// What the whole run comes to, and a note when it is not what its own counts say: a program
    /// that crashed, or was stopped, has failed whatever it had counted until then.
    pub fn judge(&self, success: bool, ending: &str) -> (Counts, Option<String>) {
        let mut counts = self.counts;
        let note = match (success, self.summaries) {
            (true, 0) => Some("it ended without a result".to_owned()),
            (false, 0) => Some(format!("it ended without a result: {ending}")),
            (false, _) if counts.failed == 0 => Some(format!("no test failed, yet: {ending}")),
            _ => None,
        };
        if note.is_some() {
            counts.failed += 1;
        }
        (counts, note)
    }

    /// What the output was passed on to.
    pub fn output(&self) -> &W {
        &self.to
    }

    fn end_line(&mut self) {
        if let Some(counts) = parse_line(&String::from_utf8_lossy(&self.line)) {
            self.counts += counts;
            self.summaries += 1;
        }
        self.line.clear();
    }
}

impl<W: Write> Write for Tally<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else {
                self.line.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; \
        2 filtered out; finished in 0.01s";
    const FAILED: &str = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; \
        0 filtered out; finished in 0.01s";

    fn tally(output: &str) -> Tally<Vec<u8>> {
        let mut tally = Tally::new(Vec::new());
        // In pieces, as pipes deliver it.
        for piece in output.as_bytes().chunks(7) {
            tally.write_all(piece).unwrap();
        }
        tally
    }

    #[test]
    fn reads_result_lines() {
        let counts = |passed, failed, skipped| Counts {
            passed,
            failed,
            skipped,
        };
        assert_eq!(parse_line(OK), Some(counts(5, 0, 1)));
        assert_eq!(parse_line(FAILED), Some(counts(3, 2, 0)));
        assert_eq!(parse_line("test a_test ... ok"), None);
        assert_eq!(parse_line("test result: ok. many passed; 0 failed"), None);
    }

    #[test]
    fn adds_up_and_passes_on() {
        let output = format!("running 6 tests\n{OK}\n\n{FAILED}\n");
        let tally = tally(&output);
        assert_eq!(tally.to, output.as_bytes());
        let (counts, note) = tally.judge(false, "exit code 101");
        assert_eq!((counts.passed, counts.failed, counts.skipped), (8, 2, 1));
        assert_eq!(note, None);
    }

    #[test]
    fn a_crash_is_a_failure() {
        let (counts, note) = tally("running 6 tests\n").judge(false, "signal 11");
        assert_eq!(counts.failed, 1);
        assert!(note.unwrap().contains("signal 11"));

        let (counts, note) = tally(&format!("{OK}\n")).judge(false, "exit code 1");
        assert_eq!((counts.passed, counts.failed), (5, 1));
        assert!(note.unwrap().contains("exit code 1"));
    }

    #[test]
    fn silence_is_a_failure() {
        assert_eq!(tally("").judge(true, "exit code 0").0.failed, 1);
    }
}
