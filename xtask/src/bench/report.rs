//! What was measured, as Markdown.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Whether a goal was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
    /// It could not be measured.
    Unknown,
}

impl Verdict {
    /// Met or missed.
    pub fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Unknown => "not measured",
        }
    }
}

/// A goal of the project and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// What is to hold.
    pub wanted: String,
    /// What was measured, or why it was not.
    pub measured: String,
    /// Whether it holds.
    pub verdict: Verdict,
}

/// A part of the benchmark: one table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// What the columns are, and where this was measured.
    pub lead: String,
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// Rows of the table; first column: what.
    pub rows: Vec<Vec<String>>,
    /// What could not be measured, and why.
    pub left_out: Vec<String>,
    /// Goals that this part decides.
    pub goals: Vec<Goal>,
}

impl Section {
    /// An empty table with these heads, separated by `|`.
    pub fn new(title: &str, lead: &str, columns: &str) -> Self {
        Self {
            title: title.to_owned(),
            lead: lead.to_owned(),
            columns: columns
                .split('|')
                .map(|name| name.trim().to_owned())
                .collect(),
            ..Self::default()
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    fn markdown(&self, text: &mut String) {
        let _ = write!(text, "\n### {}\n\n{}\n", self.title, self.lead);
        if !self.rows.is_empty() {
            // The first column says what, the others are numbers.
            let rulers: Vec<&str> = (0..self.columns.len())
                .map(|index| if index == 0 { "---" } else { "---:" })
                .collect();
            let _ = write!(
                text,
                "\n| {} |\n|{}|\n",
                self.columns.join(" | "),
                rulers.join("|")
            );
        }
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        for reason in &self.left_out {
            let _ = write!(text, "\nNot measured: {}\n", one_line(reason));
        }
    }
}

/// The whole report: facts of the machine, goals, tables.
pub fn markdown(facts: &[String], sections: &[Section]) -> String {
    let mut text = String::new();
    for fact in facts {
        let _ = writeln!(text, "- {fact}");
    }
    if sections.iter().any(|section| !section.goals.is_empty()) {
        text.push_str("\n| goal | measured | |\n|---|---|---|\n");
    }
    for goal in sections.iter().flat_map(|section| &section.goals) {
        let Goal {
            wanted,
            measured,
            verdict,
        } = goal;
        let _ = writeln!(text, "| {wanted} | {measured} | {} |", verdict.word());
    }
    for section in sections {
        section.markdown(&mut text);
    }
    text
}

/// Errors can have several lines, which Markdown would run together.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Nanoseconds with a unit that leaves three or four digits.
pub fn time(ns: f64) -> String {
    match ns.abs() {
        size if size < 1e4 => format!("{ns:.0} ns"),
        size if size < 1e5 => format!("{:.1} µs", ns / 1e3),
        size if size < 1e6 => format!("{:.0} µs", ns / 1e3),
        size if size < 1e8 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.0} ms", ns / 1e6),
    }
}

/// Events per second.
pub fn rate(per_second: f64) -> String {
    if per_second < 1e6 {
        format!("{:.0}k/s", per_second / 1e3)
    } else {
        format!("{:.1}M/s", per_second / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(time(130.4), "130 ns");
        assert_eq!(time(-20_300.), "-20.3 µs");
        assert_eq!(time(290_123.), "290 µs");
        assert_eq!(time(10_020_000.), "10.02 ms");
        assert_eq!(time(210e6), "210 ms");
        assert_eq!(rate(354_415.), "354k/s");
        assert_eq!(rate(8.04e6), "8.0M/s");
    }

    #[test]
    fn a_report_has_goals_first_and_says_what_is_missing() {
        let mut section = Section::new("Part", "How.", "what | a | b");
        section.row(["x".into(), "1".into(), "2".into()]);
        section.left_out.push("it\n  broke".into());
        section.goals.push(Goal {
            wanted: "fast".into(),
            measured: "slow".into(),
            verdict: Verdict::of(false),
        });
        assert_eq!(
            markdown(&["Linux".into()], &[section]),
            "- Linux\n\
             \n| goal | measured | |\n|---|---|---|\n| fast | slow | **missed** |\n\
             \n### Part\n\nHow.\n\
             \n| what | a | b |\n|---|---:|---:|\n| x | 1 | 2 |\n\
             \nNot measured: it broke\n"
        );
    }
}
