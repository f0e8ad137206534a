//! A run as one HTML page: a model in JSON, and a small script beside it that
//! draws it. The numbers are those of `--output json`, made by the same code.
//!
//! The page loads nothing, and says so to the browser. What comes from outside
//! gets into it only as JSON without a `<`, and from there as text.

mod columns;
mod heat;
mod longest;
mod moments;
mod unseen;
mod words;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

pub use heat::Heat;
pub use moments::Moments;

use super::{RunInfo, json, maps_report, text::Clean, units::Time};
use crate::{
    explain::{Summary, Totals, maps::Trace},
    recording::read::Damage,
};
use words::Worded;

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Findings that are told in words.
const FINDINGS: usize = 10;
/// Traced programs that are told.
const PROGRAMS: usize = 4;
/// Fatal errors that are told.
const FATALS: usize = 4;
/// What a page may have, in bytes, so that it opens at once.
const LARGEST: usize = 2_000_000;
/// Rows of each table of maps and locks: the first number with which the page is
/// no larger.
const ROWS: [usize; 4] = [50, 20, 8, 2];

/// What the page is made of.
pub struct Report<'a> {
    /// What was run.
    pub info: &'a RunInfo,
    /// When and on what, in words.
    pub made_on: String,
    /// What is known of its sends.
    pub sends: &'a Summary,
    /// What the kernel side counted.
    pub totals: &'a Totals,
    /// The sends over time.
    pub heat: &'a Heat,
    /// The Go programs that were traced.
    pub programs: &'a [Program<'a>],
    /// What only the live run could say, as JSON objects.
    pub told: Vec<&'a Value>,
    /// What the run said to its user.
    pub notes: &'a [String],
    /// What of the recording could not be read.
    pub damage: Damage,
}

/// A Go program that was traced.
pub struct Program<'a> {
    /// Process id.
    pub pid: u32,
    /// Its file.
    pub exe: &'a str,
    /// Which Go built it.
    pub go_version: Option<&'a str>,
    /// What is known of its maps and locks.
    pub trace: &'a Trace,
    /// What took long in it.
    pub moments: &'a Moments,
}

/// What the script draws.
#[derive(Debug, Serialize)]
struct Model {
    injector: &'static str,
    made_on: String,
    asked: Vec<String>,
    delivered: Vec<String>,
    findings: Vec<Worded>,
    more_findings: usize,
    summary: Value,
    /// Numbers above 2^53 are no numbers for a script.
    seed: String,
    worst_starts_ns: Vec<u64>,
    heat: heat::Map,
    programs: Vec<Traced>,
    more_programs: usize,
    fatals: Vec<Value>,
    more_fatals: usize,
    unseen: Vec<unseen::Unseen>,
    shares: Vec<unseen::Share>,
    notes: Vec<String>,
    aggregated: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Traced {
    pid: u32,
    exe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    go_version: Option<String>,
    report: Value,
    waiting: moments::Over,
    moments: Vec<moments::Moment>,
    chosen_from: String,
}

/// Writes the page.
pub fn write(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    let title = format!("Sends of {}", Clean(&report.info.targets));
    let mut model = String::new();
    for rows in ROWS {
        model = inert(&serde_json::to_string(&Model::new(report, rows))?);
        if PAGE.len() + STYLE.len() + SCRIPT.len() + model.len() <= LARGEST {
            break;
        }
    }
    page(out, &title, &model)
}

impl Model {
    fn new(report: &Report<'_>, rows: usize) -> Self {
        let Report {
            info,
            sends,
            totals,
            ..
        } = report;
        let heat = report.heat.map();
        let aggregated = aggregated(report, &heat, rows);
        let fatals = report.told.iter().filter(|told| told["type"] == "fatal");
        let mut fatals: Vec<Value> = fatals.map(|told| (*told).clone()).collect();
        let more_fatals = fatals.len().saturating_sub(FATALS);
        fatals.truncate(FATALS);
        let mut findings: Vec<Worded> = fatals.iter().map(words::of_fatal).collect();
        for program in report.programs {
            let found = program.trace.findings();
            findings.extend(found.iter().map(words::of_finding));
        }
        findings.extend(words::of_sends(info, sends, totals));
        findings.sort_by_key(Worded::grade);
        let more_findings = findings.len().saturating_sub(FINDINGS);
        findings.truncate(FINDINGS);
        let traced = report.programs.iter().take(PROGRAMS).map(|program| Traced {
            pid: program.pid,
            exe: program.exe.to_owned(),
            go_version: program.go_version.map(str::to_owned),
            report: maps_report::value(program.pid, program.trace, rows),
            waiting: program.moments.over_time(),
            moments: program.moments.worst(program.trace, info.start_ns),
            chosen_from: program.moments.chosen_from(),
        });
        let worst = sends.worst().into_iter();
        Self {
            injector: env!("CARGO_PKG_VERSION"),
            made_on: report.made_on.clone(),
            asked: words::asked(info),
            delivered: words::delivered(info, sends, totals),
            findings,
            more_findings,
            summary: json::report(info, sends, totals),
            seed: info.seed.to_string(),
            worst_starts_ns: worst
                .map(|send| send.start_ns.saturating_sub(info.start_ns))
                .collect(),
            heat,
            programs: traced.collect(),
            more_programs: report.programs.len().saturating_sub(PROGRAMS),
            fatals,
            more_fatals,
            unseen: unseen::of(report),
            shares: unseen::shares(&report.told),
            notes: report.notes.to_vec(),
            aggregated,
        }
    }
}

/// What was summed up and what was left out, in words.
fn aggregated(report: &Report<'_>, heat: &heat::Map, rows: usize) -> Vec<String> {
    let mut lines = vec![
        "All numbers are those of injector report FILE --output json, from the same code; times on \
         this page are since the start of the run, and shown to three digits."
            .to_owned(),
        format!(
            "Heat maps: sends are counted in columns of {} and in rows that begin at 1, 2 and 5 \
             times each power of ten. Distributions have the same rows.",
            Time(heat.column_ns())
        ),
        "At most 20 processes, 10 of the sends that took longest, and 10 findings.".to_owned(),
    ];
    if !report.programs.is_empty() {
        lines.push(format!(
            "Of each traced program, at most {rows} maps, sync.Maps and locks each, those with \
             contention and risk first. How many goroutines waited is an average over each column; \
             a wait's parts are spread evenly over its time."
        ));
    }
    lines
}

/// Puts everything into its place.
fn page(out: &mut dyn Write, title: &str, model: &str) -> io::Result<()> {
    for (index, part) in PAGE.split("{{").enumerate() {
        let Some((name, rest)) = part.split_once("}}").filter(|_| index > 0) else {
            out.write_all(part.as_bytes())?;
            continue;
        };
        let text = match name {
            "title" => escaped(title),
            "style" => STYLE.to_owned(),
            "script" => SCRIPT.to_owned(),
            "model" => model.to_owned(),
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

#[cfg(test)]
mod tests {
    use injector_ebpf::{Mode, SendRecord};

    use super::{super::fixture, *};
    use crate::explain::fixture::summary;

    fn made(records: &[SendRecord], info: &RunInfo) -> String {
        let sends = summary(records);
        let totals = fixture::totals(&sends);
        let mut heat = Heat::default();
        for record in records {
            heat.send(record, info.start_ns);
        }
        let report = Report {
            info,
            made_on: "on Linux".to_owned(),
            sends: &sends,
            totals: &totals,
            heat: &heat,
            programs: &[],
            told: Vec::new(),
            notes: &["a note".to_owned()],
            damage: Damage::default(),
        };
        let mut page = Vec::new();
        write(&mut page, &report).unwrap();
        String::from_utf8(page).unwrap()
    }

    fn model(page: &str) -> Value {
        let (_, rest) = page.split_once(r#"id="model">"#).unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn the_numbers_are_those_of_json() {
        let records = fixture::records(Mode::Enforce);
        let info = fixture::info(Mode::Enforce);
        let page = made(&records, &info);
        let sends = summary(&records);
        let written = json::report(&info, &sends, &fixture::totals(&sends));
        assert_eq!(model(&page)["summary"], written);
    }

    #[test]
    fn names_of_strangers_stay_text() {
        const EVIL: &str = "</script><b>{{title}}";
        let mut records = fixture::records(Mode::Enforce);
        for record in &mut records {
            record.comm = *b"</script><b>\0\0\0\0";
        }
        let info = RunInfo {
            targets: EVIL.to_owned(),
            rules: vec![format!("<!-- {EVIL}")],
            ..fixture::info(Mode::Enforce)
        };
        let page = made(&records, &info);
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("<b>") && !page.contains("<!-- "));
        assert!(page.contains("<title>Sends of &lt;/script&gt;&lt;b&gt;{{title}}</title>"));
        let model = model(&page);
        assert_eq!(model["summary"]["targets"], EVIL);
        assert_eq!(model["summary"]["by_process"][0]["comm"], "</script><b>");
    }

    /// Not even an address of something to load; names of the SVG namespace are
    /// not loaded.
    #[test]
    fn the_page_needs_no_network() {
        let page = made(&fixture::records(Mode::Shadow), &fixture::info(Mode::Shadow));
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for address in ["http:", "https:", "//cdn", "@import", "src=", "<link"] {
            assert!(!page.contains(address), "{address}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    /// The largest run there can be: every process, every column and every row.
    #[test]
    fn the_page_of_any_run_is_small() {
        let info = fixture::info(Mode::Enforce);
        let records: Vec<_> = (0..100_000_u64)
            .map(|n| SendRecord {
                start_ns: info.start_ns + n * 600_000,
                tgid: n as u32 % 600,
                natural_ns: 1 << (n % 40),
                asked_ns: 1 << (n % 37),
                delivered_ns: 1 << (n % 37),
                verdict: injector_ebpf::Verdict::Delivered as u8,
                ..crate::explain::fixture::send()
            })
            .collect();
        let page = made(&records, &info);
        assert!(page.len() < LARGEST, "{} bytes", page.len());
    }

    #[test]
    fn an_empty_run_has_a_page() {
        let page = made(&[], &fixture::info(Mode::Shadow));
        assert_eq!(model(&page)["summary"]["sends"]["count"], 0);
    }
}
