//! A watched map at the end of a run: text for people, or one JSON object whose
//! fields are in `docs/json.md`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    fatal::{Frame, frames, label, place},
    json_line,
    units::Time,
};
use crate::explain::watch::{Names, Share, Side, Watched};

/// Goroutines and callers in the text; JSON has all.
const SHOWN: usize = 5;
/// Overlaps with stacks in the text.
const SHOWN_OVERLAPS: usize = 2;

/// What is told of it.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: u32,
    expression: String,
    address: String,
    threads: usize,
    operations: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_operation: Option<Quantiles>,
    goroutines: Vec<ByGoroutine>,
    callers: Vec<ByCaller>,
    overlapping: u64,
    overlaps: Vec<Pair>,
    hits: u64,
    hit_price_ns: u64,
    program_ns: u64,
    cost_ns: u64,
    repeated: u64,
    cut: u64,
    other_flags: u64,
    foreign: u64,
    lost: u64,
}

#[derive(Debug, Serialize)]
#[allow(
    clippy::struct_field_names,
    reason = "fields have the names of the document"
)]
struct Quantiles {
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

#[derive(Debug, Serialize)]
struct ByGoroutine {
    goroutine: u64,
    operations: u64,
    total_ns: u64,
}

#[derive(Debug, Serialize)]
struct ByCaller {
    function: String,
    #[serde(skip_serializing_if = "is_zero")]
    line: u32,
    operations: u64,
    total_ns: u64,
}

#[derive(Debug, Serialize)]
struct Pair {
    first: Party,
    second: Party,
}

#[derive(Debug, Serialize)]
struct Party {
    goroutine: u64,
    tid: u32,
    time_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    stack: Vec<Frame>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "how serde calls it")]
fn is_zero(line: &u32) -> bool {
    *line == 0
}

/// What only the one who watched knows.
pub struct Watch {
    /// The process.
    pub pid: u32,
    /// What was asked for.
    pub expression: String,
    /// The map's header.
    pub address: u64,
    /// Threads that were given a watchpoint.
    pub threads: usize,
    /// What the trap of a hit costs, in nanoseconds.
    pub price_ns: u64,
    /// Time in the kernel program, in nanoseconds.
    pub program_ns: u64,
}

impl Report {
    /// With functions and lines in place of addresses.
    pub fn new(watch: &Watch, watched: &Watched, names: Names<'_>) -> Self {
        let times = &watched.times;
        let party = |side: &Side| Party {
            goroutine: side.goroutine,
            tid: side.tid,
            time_ns: side.since_ns,
            operation: side.operation.map(injector_ebpf::go::Event::name),
            stack: frames(names(&side.stack)),
        };
        let mut goroutines: Vec<_> = watched.goroutines.iter().collect();
        goroutines.sort_by_key(|(_, share)| std::cmp::Reverse(share.operations));
        let mut callers: Vec<_> = watched.callers.iter().collect();
        callers.sort_by(|a, b| b.1.operations.cmp(&a.1.operations).then(a.0.cmp(b.0)));
        Self {
            kind: "watch",
            pid: watch.pid,
            expression: watch.expression.clone(),
            address: format!("{:#x}", watch.address),
            threads: watch.threads,
            operations: times.count(),
            in_operation: (!times.is_empty()).then(|| Quantiles {
                p50_ns: times.quantile(0.5).unwrap_or(0),
                p90_ns: times.quantile(0.9).unwrap_or(0),
                p99_ns: times.quantile(0.99).unwrap_or(0),
                max_ns: times.max().unwrap_or(0),
            }),
            goroutines: goroutines
                .into_iter()
                .map(|(goroutine, Share { operations, ns })| ByGoroutine {
                    goroutine: *goroutine,
                    operations: *operations,
                    total_ns: *ns,
                })
                .collect(),
            callers: callers
                .into_iter()
                .map(|((function, line), Share { operations, ns })| ByCaller {
                    function: function.clone(),
                    line: *line,
                    operations: *operations,
                    total_ns: *ns,
                })
                .collect(),
            overlapping: watched.overlapping,
            overlaps: watched
                .overlaps
                .iter()
                .map(|overlap| Pair {
                    first: party(&overlap.first),
                    second: party(&overlap.second),
                })
                .collect(),
            hits: watched.hits,
            hit_price_ns: watch.price_ns,
            program_ns: watch.program_ns,
            cost_ns: watched.hits * watch.price_ns + watch.program_ns,
            repeated: watched.repeated,
            cut: watched.cut,
            other_flags: watched.other_flags,
            foreign: watched.foreign,
            lost: watched.lost,
        }
    }
}

/// Writes one JSON object in a line.
pub fn json(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    json_line(out, report)
}

/// Writes it for people.
pub fn text(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    out.write_all(page(report).as_bytes())
}

fn page(report: &Report) -> String {
    let mut page = format!(
        "watched map {} at {}: {} writes in {} threads\n",
        report.expression, report.address, report.operations, report.threads
    );
    if let Some(times) = &report.in_operation {
        let words = format!(
            "p50 {}, p90 {}, p99 {}, longest {}: each with the price of a hit, {}, in it",
            Time(times.p50_ns),
            Time(times.p90_ns),
            Time(times.p99_ns),
            Time(times.max_ns),
            Time(report.hit_price_ns)
        );
        label(&mut page, "inside", &words);
    }
    for (index, by) in report.callers.iter().take(SHOWN).enumerate() {
        let name = if index == 0 { "callers" } else { "" };
        let function = match by.function.as_str() {
            "" => "others, or not known",
            function => function,
        };
        let words = format!("{:>8}  {function}:{}", by.operations, by.line);
        label(&mut page, name, &words);
    }
    for (index, by) in report.goroutines.iter().take(SHOWN).enumerate() {
        let name = if index == 0 { "by" } else { "" };
        let words = format!("{:>8}  goroutine {}", by.operations, by.goroutine);
        label(&mut page, name, &words);
    }
    let words = match report.overlapping {
        0 => "none: no two goroutines were in operations on it at once".to_owned(),
        count => format!("{count} times two goroutines were in operations on it at once: proven"),
    };
    label(&mut page, "overlaps", &words);
    for pair in report.overlaps.iter().take(SHOWN_OVERLAPS) {
        for (side, verb) in [(&pair.first, "was in"), (&pair.second, "came with")] {
            let operation = side.operation.unwrap_or("a write");
            let words = format!("goroutine {} {verb} {operation}", side.goroutine);
            label(&mut page, "", &words);
            for frame in &side.stack {
                let _ = writeln!(page, "{:12}{}", "", place(frame));
            }
        }
    }
    if report.foreign > 0 {
        let words = format!(
            "{} hits by functions that are none of maps: the map is gone, and its memory is \
             used for something else",
            report.foreign
        );
        label(&mut page, "", &words);
    }
    if report.lost > 0 {
        let words = format!("{} hits were lost, and what was between them", report.lost);
        label(&mut page, "lost", &words);
    }
    let words = format!(
        "{} of CPU time: {} hits at {}, measured here, and {} in the kernel program",
        Time(report.cost_ns),
        report.hits,
        Time(report.hit_price_ns),
        Time(report.program_ns)
    );
    label(&mut page, "cost", &words);
    page
}

#[cfg(test)]
mod tests {
    use injector_ebpf::go::{Event, EventRecord};

    use super::{super::documented, *};
    use crate::go;

    const HEADING: &str = "## The lines of `injector maps`: `watch`\n";

    fn names(stack: &[u64]) -> Vec<go::Frame> {
        let frame = |address: &u64| go::Frame {
            function: match address {
                1 => "runtime.mapassign".to_owned(),
                address => format!("main.at_{address}"),
            },
            file: "/src/main.go".to_owned(),
            line: 31,
        };
        stack.iter().map(frame).collect()
    }

    fn report() -> Report {
        let mut watched = Watched::default();
        let hit = |goroutine: u64, time_ns, kind| EventRecord {
            time_ns,
            goroutine_id: goroutine,
            tid: 10 + goroutine as u32,
            kind: kind as u8,
            depth: 2,
            frames: [1, 20 + goroutine, 0, 0, 0, 0, 0, 0, 0, 0],
            ..EventRecord::default()
        };
        for hit in [
            hit(7, 100, Event::WatchSet),
            hit(8, 5_100, Event::WatchSet),
            hit(7, 20_100, Event::WatchClear),
            hit(8, 30_100, Event::WatchClear),
        ] {
            watched.feed(&hit, &names);
        }
        let watch = Watch {
            pid: 4242,
            expression: "main.cache".to_owned(),
            address: 0xc000_0123,
            threads: 5,
            price_ns: 15_000,
            program_ns: 4_000,
        };
        Report::new(&watch, &watched, &names)
    }

    #[test]
    fn people_see_who_was_inside() {
        let expected = "\
watched map main.cache at 0xc0000123: 2 writes in 5 threads
inside    p50 20us, p90 25us, p99 25us, longest 25us: each with the price of a hit, 15us, in it
callers   1 main.at_27:31
          1 main.at_28:31
by        1 goroutine 7
          1 goroutine 8
overlaps  1 times two goroutines were in operations on it at once: proven
          goroutine 7 was in assign
            runtime.mapassign  /src/main.go:31
            main.at_27  /src/main.go:31
          goroutine 8 came with assign
            runtime.mapassign  /src/main.go:31
            main.at_28  /src/main.go:31
cost      64us of CPU time: 4 hits at 15us, measured here, and 4us in the kernel program
";
        assert_eq!(page(&report()), expected);
    }

    #[test]
    fn the_document_has_every_field() {
        let written = documented::keys(&serde_json::to_value(report()).unwrap());
        assert_eq!(written, documented::names(HEADING));
    }
}
