//! The table at the end of a test run.

use super::results::Counts;

/// One ring under one kernel.
pub struct Row {
    /// The ring's name.
    pub ring: &'static str,
    /// The kernel's release, or the series when there is no such kernel here.
    pub kernel: String,
    /// Its results.
    pub counts: Counts,
    /// What the counts do not tell.
    pub note: Option<String>,
}

impl Row {
    /// A ring that did not get as far as running tests, which counts as one failure.
    pub fn failed(ring: &'static str, kernel: &str, reason: &str) -> Self {
        let counts = Counts {
            failed: 1,
            ..Counts::default()
        };
        Self::with_note(ring, kernel, counts, reason)
    }

    /// A kernel that cannot be had here, which counts as one skipped test.
    pub fn unavailable(ring: &'static str, kernel: &str, reason: &str) -> Self {
        let counts = Counts {
            skipped: 1,
            ..Counts::default()
        };
        Self::with_note(ring, kernel, counts, reason)
    }

    fn with_note(ring: &'static str, kernel: &str, counts: Counts, note: &str) -> Self {
        Self {
            ring,
            kernel: kernel.to_owned(),
            counts,
            note: Some(note.to_owned()),
        }
    }
}

/// Prints all rows and, on the last line, their sum.
pub fn print(rows: &[Row]) {
    println!("\nring    kernel                           passed  failed  skipped");
    for row in rows {
        let Counts {
            passed,
            failed,
            skipped,
        } = row.counts;
        println!(
            "{:<7} {:<31} {passed:>7} {failed:>7} {skipped:>8}",
            row.ring, row.kernel
        );
    }
    for row in rows {
        if let Some(note) = &row.note {
            println!("\n{} {}: {note}", row.ring, row.kernel);
        }
    }
    println!("\n{}", sum(rows));
}

fn sum(rows: &[Row]) -> String {
    let mut sum = Counts::default();
    for row in rows {
        sum += row.counts;
    }
    let Counts {
        passed,
        failed,
        skipped,
    } = sum;
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unavailable_kernels_are_skipped_tests() {
        let rows = [
            Row::failed("e2e", "-", "it does not build"),
            Row::unavailable("vm", "6.18", "no network"),
            Row::unavailable("vm", "7.3", "no network"),
        ];
        assert_eq!(sum(&rows), "0 passed, 1 failed, 2 skipped");
    }
}
