//! Distributions drawn with characters.

use std::fmt::Write as _;

use super::units::Time;
use crate::explain::Times;

/// Columns of the range at the left.
const LABEL: usize = 16;

/// Columns of a count.
const COUNT: usize = 9;

/// Columns of the longest bar.
const BAR: usize = 18;

/// So many empty rows in a row are drawn as one.
const GAP: usize = 3;

/// Draws distributions side by side on one logarithmic scale, without those
/// that are empty. The longest bar of each is its own fullest row; a row that
/// is not empty has a mark.
pub fn side_by_side(text: &mut String, all: &[(&str, &Times)]) {
    let all: Vec<_> = all.iter().filter(|(_, times)| !times.is_empty()).collect();
    let rows = rows(&all.iter().map(|(_, times)| *times).collect::<Vec<_>>());
    if rows.is_empty() {
        return;
    }
    let longest: Vec<_> = (0..all.len())
        .map(|side| rows.iter().map(|row| row.counts[side]).max().unwrap_or(0))
        .collect();
    let start = text.len();
    let _ = write!(text, "  {:LABEL$}", "");
    for (name, _) in &all {
        let _ = write!(text, " {name:>COUNT$} {:BAR$}", "");
    }
    end_line(text, start);

    for run in rows.chunk_by(|a, b| a.is_empty() && b.is_empty()) {
        if run[0].is_empty() && run.len() >= GAP {
            text.push_str("  ...\n");
            continue;
        }
        for row in run {
            let start = text.len();
            let _ = write!(text, "  {:LABEL$}", row.label());
            for (count, longest) in row.counts.iter().zip(&longest) {
                let bar = "*".repeat(bar(*count, *longest));
                let _ = write!(text, " {count:>COUNT$} {bar:BAR$}");
            }
            end_line(text, start);
        }
    }
}

/// Marks for a row: in proportion, but never none for something.
fn bar(count: u64, longest: u64) -> usize {
    if count == 0 {
        return 0;
    }
    let marks = u128::from(count) * BAR as u128 / u128::from(longest);
    (marks as usize).max(1)
}

struct Row {
    from: u64,
    to: Option<u64>,
    counts: Vec<u64>,
}

impl Row {
    fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    fn label(&self) -> String {
        match self.to {
            Some(to) => format!("{} - {}", Time(self.from), Time(to)),
            None => format!("from {}", Time(self.from)),
        }
    }
}

/// From the first row that is not empty to the last.
fn rows(all: &[&Times]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for times in all {
        for (index, (from, to, count)) in times.rows().enumerate() {
            if index == rows.len() {
                rows.push(Row {
                    from,
                    to,
                    counts: Vec::with_capacity(all.len()),
                });
            }
            rows[index].counts.push(count);
        }
    }
    while rows.last().is_some_and(Row::is_empty) {
        rows.pop();
    }
    let first = rows.iter().position(|row| !row.is_empty());
    rows.split_off(first.unwrap_or(rows.len()))
}

fn end_line(text: &mut String, start: usize) {
    let end = start + text[start..].trim_end().len();
    text.truncate(end);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(all: &[u64]) -> Times {
        let mut times = Times::default();
        for ns in all {
            times.record(*ns);
        }
        times
    }

    fn draw(left: &[u64], right: &[u64]) -> String {
        let mut text = String::new();
        side_by_side(
            &mut text,
            &[("asked", &times(left)), ("given", &times(right))],
        );
        text
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(draw(&[], &[]), "");
    }

    #[test]
    fn a_long_gap_is_one_row() {
        assert_eq!(
            draw(&[1_000, 1_500, 30_000_000], &[3_000]),
            "                       asked                        given
  1us - 2us                2 ******************         0
  2us - 5us                0                            1 ******************
  ...
  20ms - 50ms              1 *********                  0
"
        );
    }

    #[test]
    fn an_empty_distribution_has_no_column() {
        assert_eq!(
            draw(&[7], &[]),
            "                       asked
  5ns - 10ns               1 ******************
"
        );
    }

    proptest! {
        #[test]
        fn counts_that_are_drawn_add_up(
            left in prop::collection::vec(any::<u64>(), 0..50),
            right in prop::collection::vec(0..10_000_000_u64, 0..50),
        ) {
            let text = draw(&left, &right);
            let mut sum = 0;
            for line in text.lines().skip(1).filter(|line| *line != "  ...") {
                prop_assert!(line.chars().count() < 80, "{}", line);
                sum += line[2 + LABEL..]
                    .split_whitespace()
                    .filter_map(|word| word.parse::<usize>().ok())
                    .sum::<usize>();
            }
            prop_assert_eq!(sum, left.len() + right.len());
        }
    }
}
