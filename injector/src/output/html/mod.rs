//! A run as one HTML page: a model in JSON, and a small script beside it that
//! draws it. The numbers are those of `--output json`, made by the same code.
//!
//! The page loads nothing, and says so to the browser. What comes from outside
//! gets into it only as JSON without a `<`, and from there as text.

mod columns;
mod heat;
mod longest;
mod moments;
mod seen;
mod unseen;
mod words;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

pub use seen::Seen;

use super::{json, maps_report, nanoseconds, text::Clean, units::Time};
use crate::{
    explain::{RunInfo, Summary, Totals, maps::Trace},
    recording::{read::Damage, replay::Replayed},
};
use heat::Heat;
use moments::Moments;
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
struct Report<'a> {
    info: &'a RunInfo,
    /// On what it was recorded, in words.
    host: String,
    started_unix_ns: u64,
    /// None if only maps and locks were traced.
    sends: Option<&'a Summary>,
    totals: &'a Totals,
    heat: &'a Heat,
    programs: Vec<Program<'a>>,
    /// What only the live run could say.
    told: Vec<Value>,
    notes: &'a [String],
    damage: Damage,
}

/// A Go program that was traced.
struct Program<'a> {
    pid: u32,
    exe: &'a str,
    go_version: Option<&'a str>,
    trace: &'a Trace,
    moments: Option<&'a Moments>,
}

/// What the script draws.
#[derive(Debug, Serialize)]
struct Model {
    injector: &'static str,
    host: String,
    started_unix_ms: u64,
    elapsed_ns: u64,
    asked: Vec<String>,
    delivered: Vec<String>,
    findings: Vec<Worded>,
    more_findings: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Value>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<moments::Over>,
    moments: Vec<moments::Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_from: Option<String>,
}

/// Writes the page of a recording, in which this was seen.
pub fn write(out: &mut dyn Write, replayed: &Replayed, seen: &Seen) -> io::Result<()> {
    let host = &replayed.host;
    let programs = replayed.programs.iter().map(|program| Program {
        pid: program.pid,
        exe: &program.file,
        go_version: program.go_version.as_deref(),
        trace: &program.trace,
        moments: seen.moments(program.tgid),
    });
    let told = replayed.told.iter();
    let report = Report {
        info: &replayed.info,
        host: format!(
            "Linux {} ({}), injector {}",
            host.kernel, host.machine, host.injector
        ),
        started_unix_ns: host.started_unix_ns,
        sends: replayed.sends.as_ref(),
        totals: &replayed.totals,
        heat: seen.heat(),
        programs: programs.collect(),
        told: told
            .filter_map(|told| serde_json::from_str(&told.json).ok())
            .collect(),
        notes: &replayed.notes,
        damage: replayed.damage,
    };
    fit(out, &report)
}

/// With as many rows as there is room for.
fn fit(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    let title = title(report);
    let mut model = String::new();
    for rows in ROWS {
        model = inert(&serde_json::to_string(&Model::new(report, rows))?);
        if PAGE.len() + STYLE.len() + SCRIPT.len() + model.len() <= LARGEST {
            break;
        }
    }
    page(out, &title, &model)
}

fn title(report: &Report<'_>) -> String {
    let what = match report.sends {
        Some(_) => "Sends",
        None => "Maps and locks",
    };
    format!("{what} of {}", Clean(&report.info.targets))
}

impl Model {
    fn new(report: &Report<'_>, rows: usize) -> Self {
        let Report { info, totals, .. } = report;
        let heat = report.heat.map();
        let aggregated = aggregated(report, &heat, rows);
        let fatals = report.told.iter().filter(|told| told["type"] == "fatal");
        let mut fatals: Vec<Value> = fatals.cloned().collect();
        let more_fatals = fatals.len().saturating_sub(FATALS);
        fatals.truncate(FATALS);
        let mut findings: Vec<Worded> = fatals.iter().map(words::of_fatal).collect();
        for program in &report.programs {
            let found = program.trace.findings();
            findings.extend(found.iter().map(words::of_finding));
        }
        if let Some(sends) = report.sends {
            findings.extend(words::of_sends(info, sends, totals));
        }
        findings.sort_by_key(Worded::grade);
        let more_findings = findings.len().saturating_sub(FINDINGS);
        findings.truncate(FINDINGS);
        let traced = report.programs.iter().take(PROGRAMS).map(|program| Traced {
            pid: program.pid,
            exe: program.exe.to_owned(),
            go_version: program.go_version.map(str::to_owned),
            report: maps_report::value(program.pid, program.trace, rows),
            waiting: program.moments.map(Moments::over_time),
            moments: program.moments.map_or_else(Vec::new, |moments| {
                moments.worst(program.trace, info.start_ns)
            }),
            chosen_from: program.moments.map(Moments::chosen_from),
        });
        let worst = report.sends.map(Summary::worst).unwrap_or_default();
        Self {
            injector: env!("CARGO_PKG_VERSION"),
            host: report.host.clone(),
            started_unix_ms: report.started_unix_ns / 1_000_000,
            elapsed_ns: nanoseconds(info.elapsed),
            asked: words::asked(info, report.sends.is_some()),
            delivered: report
                .sends
                .map_or_else(Vec::new, |sends| words::delivered(info, sends, totals)),
            findings,
            more_findings,
            summary: report.sends.map(|sends| json::report(info, sends, totals)),
            seed: info.seed.to_string(),
            worst_starts_ns: worst
                .into_iter()
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
            host: "Linux".to_owned(),
            started_unix_ns: 0,
            sends: Some(&sends),
            totals: &totals,
            heat: &heat,
            programs: Vec::new(),
            told: Vec::new(),
            notes: &["a note".to_owned()],
            damage: Damage::default(),
        };
        let mut page = Vec::new();
        fit(&mut page, &report).unwrap();
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
        let page = made(
            &fixture::records(Mode::Shadow),
            &fixture::info(Mode::Shadow),
        );
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
