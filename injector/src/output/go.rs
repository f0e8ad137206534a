//! What `injector doctor --pid` found: a table for people, or one JSON object
//! whose fields are in `docs/json.md`.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::{
    text::{Clean, wrap},
    units::Time,
};
use crate::go::{self, Field, LAYOUT, Placement, Program, Sited, Source, Subject};

/// Columns of the table.
const WIDTH: usize = 100;
/// Where the second column of facts begins.
const FACT: usize = 20;
/// Where the instruction begins.
const SITE: usize = 62;

/// What is known of a Go program.
#[derive(Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of the JSON object"
)]
pub struct Report {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: u32,
    program: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    arch: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    maps: Option<&'static str>,
    pie: bool,
    cgo: bool,
    external: bool,
    symbols: bool,
    dwarf: bool,
    functions: usize,
    traceable: bool,
    goroutine_register: &'static str,
    offsets: Vec<Member>,
    missing: Vec<Missing>,
    probes: Vec<Probe>,
    /// What a hit costs on this host, where it could be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trap: Option<Trap>,
}

/// What a hit costs with an empty program, measured just now, in nanoseconds.
#[derive(Serialize)]
pub struct Trap {
    /// Where the kernel emulates the probed instruction.
    pub emulated_ns: u64,
    /// Where it executes a copy.
    pub single_stepped_ns: u64,
}

#[derive(Serialize)]
struct Member {
    name: String,
    offset_bytes: u32,
    source: &'static str,
    declared_in: &'static str,
}

#[derive(Serialize)]
struct Missing {
    without: &'static str,
    fields: Vec<String>,
}

#[derive(Serialize)]
struct Probe {
    group: &'static str,
    event: &'static str,
    level: u8,
    function: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    register: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<Site>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'static str>,
}

#[derive(Serialize)]
struct Site {
    address: u64,
    function_offset: u64,
    file_offset: u64,
    instruction: String,
    method: &'static str,
    repeats: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Serialize)]
struct Price {
    low_ns: u32,
    high_ns: u32,
}

impl Report {
    /// Puts together what is known of the program of a process.
    pub fn new(pid: u32, program: &Program) -> Self {
        let image = program.image();
        let known = LAYOUT.iter().filter_map(|row| {
            Some(Member {
                name: name(row.field),
                offset_bytes: program.offsets.get(row.field)?,
                source: match program.offsets.source(row.field)? {
                    Source::Dwarf => "dwarf",
                    Source::Table => "table",
                },
                declared_in: row.source,
            })
        });
        let missing = program.offsets.missing(program.maps);
        Self {
            kind: "go",
            pid,
            program: image.name.clone(),
            version: program.version.as_ref().map(ToString::to_string),
            package: program.build().path.clone(),
            arch: image.machine.name(),
            maps: program.maps.map(go::MapKind::name),
            pie: image.pie,
            cgo: program.cgo,
            external: program.external,
            symbols: program.has_symbols(),
            dwarf: program.has_dwarf(),
            functions: program.functions,
            traceable: program.is_traceable(),
            goroutine_register: image.machine.goroutine(),
            offsets: known.collect(),
            missing: missing
                .into_iter()
                .map(|(usage, fields)| Missing {
                    without: usage.what,
                    fields: fields.into_iter().map(name).collect(),
                })
                .collect(),
            probes: program
                .sites
                .iter()
                .map(|sited| Probe::new(program, sited))
                .collect(),
            trap: None,
        }
    }
}

/// `runtime.g.goid`.
fn name(field: Field) -> String {
    let row = LAYOUT.iter().find(|row| row.field == field);
    row.map_or_else(
        || format!("{field:?}"),
        |row| format!("{}.{}", row.types[0], row.names[0]),
    )
}

impl Probe {
    fn new(program: &Program, sited: &Sited) -> Self {
        let probe = sited.probe;
        let (index, holds) = match probe.subject {
            Subject::None => (None, None),
            Subject::Argument(index) => (Some(index), Some("object")),
            Subject::Iterator(index) => (Some(index), Some("iterator")),
            Subject::Text(index) => (Some(index), Some("string")),
        };
        let (site, why_not) = match &sited.at {
            Placement::Site {
                site,
                into,
                offset,
                frame,
            } => {
                let site = Site {
                    address: site.address,
                    function_offset: *into,
                    file_offset: *offset,
                    instruction: site.instruction.clone(),
                    method: site.method.name(),
                    repeats: site.repeats,
                    price: site
                        .method
                        .price_ns(program.machine())
                        .map(|(low_ns, high_ns)| Price { low_ns, high_ns }),
                    source: frame
                        .as_ref()
                        .map(|frame| format!("{}:{}", frame.file, frame.line)),
                };
                (Some(site), None)
            }
            Placement::Nowhere(why) => (None, Some(*why)),
        };
        Self {
            group: go::group(probe.event),
            event: probe.event.name(),
            level: probe.level.number(),
            function: probe.function,
            register: index.and_then(|index| program.machine().argument(index)),
            holds,
            site,
            why_not,
        }
    }
}

/// Writes one JSON object on one line.
pub fn json(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Writes the table.
pub fn table(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let mut text = String::new();
    let _ = writeln!(text, "{} (process {})", Clean(&report.program), report.pid);
    facts(&mut text, report);
    offsets(&mut text, report);
    for (level, title) in [
        (0, "Level 0: rare, or where goroutines wait anyway"),
        (1, "Level 1: as often as the program likes"),
    ] {
        let _ = writeln!(text, "\n{title}");
        for probe in report.probes.iter().filter(|probe| probe.level == level) {
            row(&mut text, probe);
        }
    }
    footnotes(&mut text, report);
    out.write_all(text.as_bytes())
}

fn facts(text: &mut String, report: &Report) {
    let version = report
        .version
        .as_deref()
        .unwrap_or("a Go that is not named");
    let package = report.package.as_deref();
    let package = package.map_or_else(String::new, |package| format!(", package {package}"));
    let built = format!("{version} for {}{package}", report.arch);
    fact(text, "built by", &built);
    let mut linked = vec![if report.external {
        "by the system's linker"
    } else {
        "by Go"
    }];
    linked.extend(report.pie.then_some("position-independent"));
    linked.push(if report.cgo {
        "with C code"
    } else {
        "no C code"
    });
    fact(text, "linked", &linked.join(", "));
    let has = match (report.symbols, report.dwarf) {
        (true, true) => "symbols and debugging information",
        (true, false) => "symbols, no debugging information",
        (false, true) => "debugging information, no symbols",
        (false, false) => "stripped: no symbols, no debugging information",
    };
    fact(text, "has", has);
    fact(text, "maps", report.maps.unwrap_or("none that are known"));
    fact(text, "functions", &report.functions.to_string());
    if let Some(trap) = &report.trap {
        let words = format!(
            "{} here and now, {} where the instruction is single-stepped",
            Time(trap.emulated_ns),
            Time(trap.single_stepped_ns)
        );
        fact(text, "a hit costs", &words);
    }
}

fn fact(text: &mut String, name: &str, words: &str) {
    let _ = write!(text, "{:FACT$}", format!("  {name}"));
    wrap(text, FACT, WIDTH, &Clean(words).to_string());
}

fn offsets(text: &mut String, report: &Report) {
    let from = |source| {
        let of = report
            .offsets
            .iter()
            .filter(|offset| offset.source == source);
        of.count()
    };
    let known = format!(
        "{} from debugging information, {} from the table of versions",
        from("dwarf"),
        from("table")
    );
    fact(text, "offsets", &known);
    for missing in &report.missing {
        let words = format!(
            "unknown: {}. Without them there are no {}",
            missing.fields.join(", "),
            missing.without
        );
        fact(text, "", &words);
    }
    if !report.missing.is_empty() {
        fact(
            text,
            "",
            "→ build it without `-ldflags=-s` and `-w`, or with a Go that injector knows; functions, \
             lines and the places of probes are known all the same",
        );
    }
}

fn row(text: &mut String, probe: &Probe) {
    // The only instance of it that is probed.
    let function = probe
        .function
        .replace("[go.shape.interface {},go.shape.interface {}]", "[...]");
    let function = match &probe.site {
        Some(site) => format!("{function}+{:#x}", site.function_offset),
        None => function,
    };
    let _ = write!(text, "  {:10} {function:48} ", probe.group);
    match (&probe.site, probe.why_not) {
        (Some(site), _) => {
            let price = site.price.as_ref().map_or_else(
                || site.method.to_owned(),
                |price| format!("{}..{} ns", price.low_ns, price.high_ns),
            );
            let again = if site.repeats { " *" } else { "" };
            let _ = writeln!(text, "{:20} {price}{again}", site.instruction);
        }
        (None, why) => {
            wrap(
                text,
                SITE,
                WIDTH,
                &format!("none: {}", why.unwrap_or("no place")),
            );
        }
    }
}

fn footnotes(text: &mut String, report: &Report) {
    let sites = || report.probes.iter().filter_map(|probe| probe.site.as_ref());
    text.push_str(
        "\nThe price is that of a hit with an empty program, measured once on a virtual machine under\n\
         Linux 6.18: what the kernel emulates is cheap, what it single-steps is not.\n",
    );
    if sites().any(|site| site.price.is_none()) {
        text.push_str("Nothing was measured on this machine's kind of processor.\n");
    }
    if sites().any(|site| site.repeats) {
        text.push_str("* is hit a second time when the goroutine's stack has to grow.\n");
    }
    if !report.traceable {
        text.push_str("\nIt cannot be traced: see what is unknown above.\n");
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::go::Event;

    use super::{super::documented, *};

    /// The section of the document, by its heading.
    const HEADING: &str = "## The line of `injector doctor --pid`\n";

    fn report() -> Report {
        Report {
            kind: "go",
            pid: 4242,
            program: "/srv/order-api".into(),
            version: Some("go1.28.1".into()),
            package: Some("example/order-api".into()),
            arch: "amd64",
            maps: Some("swiss"),
            pie: true,
            cgo: true,
            external: true,
            symbols: false,
            dwarf: false,
            functions: 2_103,
            traceable: false,
            goroutine_register: "r14",
            offsets: vec![Member {
                name: "runtime.g.m".into(),
                offset_bytes: 48,
                source: "dwarf",
                declared_in: "runtime/runtime2.go",
            }],
            missing: vec![Missing {
                without: "goroutine numbers",
                fields: vec!["runtime.g.goid".into()],
            }],
            probes: vec![
                Probe {
                    group: "write",
                    event: Event::Assign.name(),
                    level: 1,
                    function: "runtime.mapassign_faststr",
                    register: Some("bx"),
                    holds: Some("object"),
                    site: Some(Site {
                        address: 0x41_1a44,
                        function_offset: 4,
                        file_offset: 0x1_1a44,
                        instruction: "jbe 0x411e1b".into(),
                        method: "emulated",
                        repeats: true,
                        price: Some(Price {
                            low_ns: 555,
                            high_ns: 665,
                        }),
                        source: Some("/go/src/runtime/map_faststr.go:202".into()),
                    }),
                    why_not: None,
                },
                Probe {
                    group: "semaphore",
                    event: Event::SemaphoreAcquired.name(),
                    level: 0,
                    function: "runtime.semacquire1",
                    register: None,
                    holds: None,
                    site: None,
                    why_not: Some("the call that it should have is not there"),
                },
            ],
            trap: Some(Trap {
                emulated_ns: 640,
                single_stepped_ns: 11_200,
            }),
        }
    }

    fn text() -> String {
        let mut out = Vec::new();
        table(&mut out, &report()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_says_what_it_is_and_where_probes_go() {
        let text = text();
        for part in [
            "/srv/order-api (process 4242)\n",
            "  built by          go1.28.1 for amd64, package example/order-api\n",
            "by the system's linker, position-independent, with C code",
            "stripped: no symbols",
            "unknown: runtime.g.goid. Without them there are no goroutine numbers",
            "  write      runtime.mapassign_faststr+0x4 ",
            "jbe 0x411e1b         555..665 ns *\n",
            "none: the call that it should have",
            "a hit costs       640ns here and now, 11.2us where",
            "It cannot be traced",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }

    #[test]
    fn every_field_is_documented_and_every_documented_field_exists() {
        let mut out = Vec::new();
        json(&mut out, &report()).unwrap();
        let written = documented::paths(&serde_json::from_slice(&out).unwrap());
        assert_eq!(written, documented::names(HEADING));
    }
}
