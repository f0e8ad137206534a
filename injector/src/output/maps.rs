//! The end of `injector maps`: what was traced, how often, and what was lost.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use injector_ebpf::go::{Counter, Event, SiteStats};
use serde::Serialize;

use super::{
    budget::{self, Spent},
    json_line, nanoseconds,
    text::Clean,
    units::Time,
};

/// What is told at the end.
#[derive(Debug, Serialize)]
pub struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Process id.
    pub pid: u32,
    /// The program file.
    pub program: String,
    /// Which Go built it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_version: Option<String>,
    /// How long it was traced.
    pub elapsed_ns: u64,
    /// Why it ended.
    pub ended: String,
    /// Fatal errors that were reported.
    pub fatals: u64,
    hits: u64,
    program_ns: u64,
    operations: Vec<Operation>,
    probes: Vec<Probe>,
    left_out: Vec<LeftOut>,
    /// Call stacks.
    pub stacks: Stacks,
    /// Why variables and fields have no names, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_names: Option<&'static str>,
    /// What it may cost and what it cost.
    #[serde(flatten)]
    pub spent: Spent,
    lost: Vec<Lost>,
}

/// Call stacks.
#[derive(Debug, Default, Serialize)]
pub struct Stacks {
    /// Different ones that were looked up.
    pub different: u64,
    /// Those of them in which a return address is behind no call, or behind
    /// that of another function.
    pub wrong: u64,
}

#[derive(Debug, Serialize)]
struct Operation {
    operation: &'static str,
    hits: u64,
}

#[derive(Debug, Serialize)]
struct Probe {
    function: &'static str,
    hits: u64,
    program_ns: u64,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    function: &'static str,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct Lost {
    counter: &'static str,
    count: u64,
    meaning: &'static str,
}

impl Summary {
    /// Of a process, with nothing counted yet.
    pub fn new(pid: u32, program: String, go_version: Option<String>) -> Self {
        Self {
            kind: "maps_summary",
            pid,
            program,
            go_version,
            elapsed_ns: 0,
            ended: String::new(),
            fatals: 0,
            hits: 0,
            program_ns: 0,
            operations: Vec::new(),
            probes: Vec::new(),
            left_out: Vec::new(),
            stacks: Stacks::default(),
            no_names: None,
            spent: Spent::default(),
            lost: Vec::new(),
        }
    }

    /// When and why it ended.
    pub fn ended(&mut self, elapsed: Duration, why: String) {
        self.elapsed_ns = nanoseconds(elapsed);
        self.ended = why;
    }

    /// A probe, its operation if it is on one, and its use.
    pub fn add(&mut self, function: &'static str, operation: Option<Event>, used: SiteStats) {
        self.hits += used.hits;
        self.program_ns += used.ns;
        if let Some(operation) = operation.map(Event::name) {
            let known = self.operations.iter_mut();
            match known.into_iter().find(|one| one.operation == operation) {
                Some(one) => one.hits += used.hits,
                None => self.operations.push(Operation {
                    operation,
                    hits: used.hits,
                }),
            }
        }
        self.probes.push(Probe {
            function,
            hits: used.hits,
            program_ns: used.ns,
        });
    }

    /// A function that should have been probed and was not.
    pub fn leave_out(&mut self, function: &'static str, why: &'static str) {
        self.left_out.push(LeftOut { function, why });
    }

    /// What was lost, in the order of [`Counter::ALL`].
    pub fn lose(&mut self, counters: &[u64]) {
        let counted = Counter::ALL.iter().zip(counters);
        self.lost = counted
            .filter(|(_, count)| **count > 0)
            .map(|((_, counter, meaning), count)| Lost {
                counter,
                count: *count,
                meaning: meaning.trim(),
            })
            .collect();
    }
}

/// Writes one JSON object in a line.
pub fn json(out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    json_line(out, summary)
}

/// Writes it for people.
pub fn text(out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    out.write_all(page(summary).as_bytes())
}

fn page(summary: &Summary) -> String {
    let mut page = String::new();
    let _ = writeln!(
        page,
        "process {} ({}, {}) traced for {}: {}",
        summary.pid,
        Clean(&summary.program),
        summary.go_version.as_deref().unwrap_or("version unknown"),
        Time(summary.elapsed_ns),
        summary.ended
    );
    let _ = writeln!(
        page,
        "{} fatal errors; {} hits of {} probes, {} in their programs, without the traps",
        summary.fatals,
        summary.hits,
        summary.probes.len(),
        Time(summary.program_ns)
    );
    budget::text(&mut page, &summary.spent);
    for operation in &summary.operations {
        let _ = writeln!(page, "  {:<22}{:>12}", operation.operation, operation.hits);
    }
    if let Some(why) = summary.no_names {
        let _ = writeln!(
            page,
            "not seen: names of variables and fields: {why}; maps and locks are told apart by who \
             uses them"
        );
    }
    if summary.stacks.wrong > 0 {
        let _ = writeln!(
            page,
            "{} of {} call stacks cannot be right",
            summary.stacks.wrong, summary.stacks.different
        );
    }
    for left in &summary.left_out {
        let _ = writeln!(page, "not probed: {}: {}", left.function, left.why);
    }
    for lost in &summary.lost {
        let _ = writeln!(page, "{}: {} ({})", lost.counter, lost.count, lost.meaning);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{
        super::{budget::Seen, documented},
        *,
    };

    const HEADING: &str = "## The lines of `injector maps`: `maps_summary`\n";

    fn summary() -> Summary {
        let mut summary = Summary::new(4242, "/srv/order-api".into(), Some("go1.27.3".into()));
        let used = |hits| SiteStats {
            hits,
            ns: hits * 700,
        };
        summary.add("runtime.mapassign", Some(Event::Assign), used(10));
        summary.add("runtime.mapassign_fast64", Some(Event::Assign), used(5));
        summary.add("runtime.mapaccess1", Some(Event::Access), used(100));
        summary.add("runtime.fatal", None, used(1));
        summary.leave_out("runtime.mapclear", "its first instruction cannot be probed");
        summary.spent = Spent {
            budget: Some(0.03),
            cost: 0.01,
            cost_ns: 20_000_000,
            trap_ns: 600,
            own_ns: 5_000_000,
            windows: 1,
            seen: vec![Seen::new(Event::Assign, 1.)],
            ..Spent::default()
        };
        summary.lose(&[0, 3, 0, 0, 0]);
        summary.fatals = 1;
        summary.no_names = Some("the program has no debugging information (DWARF)");
        summary.stacks = Stacks {
            different: 20,
            wrong: 1,
        };
        summary.ended(Duration::from_secs(2), "SIGINT".to_owned());
        summary
    }

    #[test]
    fn people_see_what_was_traced_and_lost() {
        let expected = "\
process 4242 (/srv/order-api, go1.27.3) traced for 2s: SIGINT
1 fatal errors; 116 hits of 4 probes, 81.2us in their programs, without the traps
cost: 1 % of one CPU of 3 % asked for (20ms of hits with 600ns a trap); injector itself took 5ms; 1 windows
every operation was seen
  assign                          15
  access                         100
not seen: names of variables and fields: the program has no debugging information (DWARF); maps and locks are told apart by who uses them
1 of 20 call stacks cannot be right
not probed: runtime.mapclear: its first instruction cannot be probed
unreadable: 3 (Hits whose goroutine or map could not be read.)
";
        assert_eq!(page(&summary()), expected);
    }

    #[test]
    fn the_document_has_every_field() {
        let written = documented::keys(&serde_json::to_value(summary()).unwrap());
        assert_eq!(written, documented::names(HEADING));
    }
}
