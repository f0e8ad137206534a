//! A run as one HTML page: a model in JSON, and a small script beside it that
//! draws it. The numbers are those of `--output json`, made by the same code.
//!
//! The page loads nothing, and says so to the browser. What comes from outside
//! gets into it only as JSON without a `<`, and from there as text.

mod columns;
mod heat;
mod words;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

pub use heat::Heat;

use super::{RunInfo, json, text::Clean};
use crate::explain::{Summary, Totals};
use words::Worded;

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Findings that are told in words.
const FINDINGS: usize = 10;

/// What the page is made of.
pub struct Report<'a> {
    /// What was run.
    pub info: &'a RunInfo,
    /// What is known of its sends.
    pub sends: &'a Summary,
    /// What the kernel side counted.
    pub totals: &'a Totals,
    /// The sends over time.
    pub heat: &'a Heat,
    /// What the run said.
    pub notes: &'a [String],
}

/// What the script draws.
#[derive(Debug, Serialize)]
struct Model {
    injector: &'static str,
    made_of: String,
    asked: Vec<String>,
    delivered: Vec<String>,
    findings: Vec<Worded>,
    more_findings: usize,
    summary: Value,
    worst_starts_ns: Vec<u64>,
    heat: heat::Map,
    programs: Vec<Value>,
    more_programs: usize,
    fatals: Vec<Value>,
    unseen: Vec<Unseen>,
    shares: Vec<Value>,
    notes: Vec<String>,
    aggregated: Vec<String>,
}

/// Something that was not seen or had no room.
#[derive(Debug, Serialize)]
struct Unseen {
    what: String,
    amount: String,
    meaning: String,
}

/// Writes the page.
pub fn write(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    let title = format!("Sends of {}", Clean(&report.info.targets));
    page(out, &title, &model(report))
}

fn model(report: &Report<'_>) -> Model {
    let Report {
        info,
        sends,
        totals,
        ..
    } = report;
    let mut findings = words::of_sends(info, sends, totals);
    findings.sort_by_key(|one| one.grade());
    let more_findings = findings.len().saturating_sub(FINDINGS);
    findings.truncate(FINDINGS);
    let starts = sends.worst().into_iter();
    Model {
        injector: env!("CARGO_PKG_VERSION"),
        made_of: format!("{}; {}", info.hook, info.engine),
        asked: words::asked(info),
        delivered: words::delivered(info, sends, totals),
        findings,
        more_findings,
        summary: json::report(info, sends, totals),
        worst_starts_ns: starts
            .map(|send| send.start_ns.saturating_sub(info.start_ns))
            .collect(),
        heat: report.heat.map(),
        programs: Vec::new(),
        more_programs: 0,
        fatals: Vec::new(),
        unseen: Vec::new(),
        shares: Vec::new(),
        notes: report.notes.to_vec(),
        aggregated: Vec::new(),
    }
}

/// Puts everything into its place.
fn page(out: &mut dyn Write, title: &str, model: &Model) -> io::Result<()> {
    let model = serde_json::to_string(model)?;
    for (index, part) in PAGE.split("{{").enumerate() {
        let Some((name, rest)) = part.split_once("}}").filter(|_| index > 0) else {
            out.write_all(part.as_bytes())?;
            continue;
        };
        let text = match name {
            "title" => escaped(title),
            "style" => STYLE.to_owned(),
            "script" => SCRIPT.to_owned(),
            "model" => inert(&model),
            _ => unreachable!("the page has no place called {name}"),
        };
        out.write_all(text.as_bytes())?;
        out.write_all(rest.as_bytes())?;
    }
    Ok(())
}

/// Text in HTML.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            other => html.push(other),
        }
    }
    html
}

/// JSON that cannot end the element it is in, or begin a comment there: in JSON
/// these characters are only in strings, where they can be written otherwise.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
