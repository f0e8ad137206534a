//! A fatal error of a Go program, explained: text for people, or one JSON
//! object whose fields are in `docs/json.md`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use injector_ebpf::go::{Event, FatalRecord};
use serde::Serialize;

use super::{
    json_line,
    text::{Clean, wrap},
    units::Time,
};
use crate::{
    explain::{
        fatal::{Accident, Fatal, Names, Origin, OwnReport, Party},
        map_header,
    },
    go::{self, Loaded, Memory},
};

/// Columns of the text.
const WIDTH: usize = 100;
/// Where the text begins beside the labels.
const INDENT: usize = 10;
/// Operations of the map's history in the text; JSON has all.
const SHOWN_HISTORY: usize = 12;

/// What is told of a fatal error.
#[derive(Debug, Serialize)]
#[allow(
    clippy::struct_field_names,
    reason = "fields have the names of the document"
)]
pub struct Report {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: u32,
    time_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    message: String,
    message_cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    accident: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    go_version: Option<String>,
    victim: Side,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_other: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more_writers: Vec<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<Map>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<Past>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_report: Option<&'static str>,
    recover: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
}

#[derive(Debug, Serialize)]
struct Side {
    goroutine: u64,
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    stack: Vec<Frame>,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<Creation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_function: Option<String>,
}

/// The `go` statement that made a goroutine.
#[derive(Debug, Serialize)]
struct Creation {
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
    #[serde(flatten)]
    frame: Frame,
}

/// The process was stopped to be looked at.
#[derive(Debug, Serialize)]
struct Held {
    for_ns: u64,
    threads: Vec<Thread>,
}

#[derive(Debug, Serialize)]
struct Thread {
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<Frame>,
}

#[derive(Debug, Serialize)]
pub(super) struct Frame {
    function: String,
    file: String,
    #[serde(skip_serializing_if = "is_zero")]
    line: u32,
}

#[derive(Debug, Serialize)]
#[allow(
    clippy::struct_field_names,
    reason = "fields have the names of the document"
)]
struct Map {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    map_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writing: Option<bool>,
    header: Vec<Field>,
    iterator: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct Field {
    name: &'static str,
    value: u64,
}

#[derive(Debug, Serialize)]
struct Past {
    goroutine: u64,
    operation: &'static str,
    age_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<Frame>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "how serde calls it")]
fn is_zero(line: &u32) -> bool {
    *line == 0
}

/// Explains a record of this program.
pub fn explain(record: &FatalRecord, loaded: &Loaded) -> Fatal {
    let program = loaded.program();
    let minor = program.version.as_ref().map(|it| it.minor);
    let writing = program.writing_bit();
    Fatal::new(record, minor, writing, &|stack| loaded.frames(stack))
}

impl Report {
    /// With functions and lines in place of addresses.
    pub fn new(fatal: &Fatal, loaded: &Loaded) -> Self {
        let program = loaded.program();
        let version = program.version.as_ref().map(ToString::to_string);
        let names = |stack: &[u64]| loaded.frames(stack);
        let caller = |addresses: &[u64]| loaded.caller(addresses);
        let mut report = Self::named(fatal, version, &names, &caller);
        if let (Some(map), Some(kind)) = (&mut report.map, program.maps) {
            map.kind = Some(kind.name());
            map.type_name = go::map_name(loaded, Memory::of(fatal.pid), fatal.map_type);
            let offsets = &program.offsets;
            if let Some(bytes) = &fatal.header {
                map.header = fields(map_header::map(kind, offsets, bytes));
            }
            if let Some(bytes) = &fatal.iterator {
                map.iterator = fields(map_header::iterator(kind, offsets, bytes));
            }
        }
        report
    }

    /// The process is stopped for so many nanoseconds, and its threads are at
    /// these instructions.
    pub fn held(&mut self, for_ns: u64, threads: &[(u32, u64)], names: Names<'_>) {
        let threads = threads.iter().map(|(tid, instruction)| Thread {
            tid: *tid,
            frame: names(&[*instruction]).into_iter().next().map(frame),
        });
        self.held = Some(Held {
            for_ns,
            threads: threads.collect(),
        });
    }

    fn named(
        fatal: &Fatal,
        go_version: Option<String>,
        names: Names<'_>,
        caller: &dyn Fn(&[u64]) -> Option<go::Frame>,
    ) -> Self {
        let side = |party: &Party| Side::new(party, names);
        let (other, no_other) = match &fatal.other {
            Some(Ok(other)) => (Some(other), None),
            Some(Err(why)) => (None, Some(*why)),
            None => (None, None),
        };
        Self {
            kind: "fatal",
            pid: fatal.pid,
            time_ns: fatal.time_ns,
            error: fatal.kind.map(Event::name),
            message: fatal.message.clone(),
            message_cut: fatal.message_cut,
            accident: fatal.accident.map(Accident::name),
            go_version,
            victim: Side {
                goroutine: fatal.goroutine,
                tid: fatal.tid,
                operation: fatal.victim.map(|found| found.operation.name()),
                age_ns: fatal.victim.and_then(|found| found.age_ns),
                stack: frames(names(&fatal.stack)),
                addresses: addresses(&fatal.stack),
                created_by: creation(fatal.origin.as_ref(), names),
                first_function: first_function(fatal.origin.as_ref(), names),
            },
            other: other.map(|other| side(&other.party)),
            confidence: other.map(|other| other.confidence.name()),
            because: other.map_or_else(Vec::new, |other| other.because.clone()),
            doubts: other.map_or_else(Vec::new, |other| other.doubts.clone()),
            no_other,
            more_writers: fatal.more_writers.iter().map(side).collect(),
            map: fatal.map.map(|address| Map {
                address: hexadecimal(address),
                map_type: (fatal.map_type != 0).then(|| hexadecimal(fatal.map_type)),
                type_name: None,
                kind: None,
                writing: fatal.writing,
                header: Vec::new(),
                iterator: Vec::new(),
            }),
            history: fatal
                .history
                .iter()
                .map(|past| Past {
                    goroutine: past.goroutine,
                    operation: past.operation.name(),
                    age_ns: past.age_ns,
                    caller: caller(&past.callers).map(frame),
                })
                .collect(),
            own_report: match (fatal.accident, fatal.own_report) {
                (None, _) | (_, OwnReport::Unknown) => None,
                (_, OwnReport::VictimOnly) => Some("victim_only"),
                (_, OwnReport::OneOfAll) => Some("one_of_all"),
            },
            recover: recover(fatal),
            remedy: fatal.accident.map(remedy),
            held: None,
        }
    }
}

/// Why the program cannot go on.
fn recover(fatal: &Fatal) -> String {
    let function = match fatal.kind {
        Some(Event::Throw) => "runtime.throw",
        _ => "runtime.fatal",
    };
    let why = match fatal.accident {
        Some(_) => ", because the map may be damaged",
        None => "",
    };
    format!(
        "recover() cannot catch this: it is no panic. {function} ends the process without \
         unwinding any stack, so no deferred function runs{why}"
    )
}

/// What would have prevented it.
fn remedy(accident: Accident) -> &'static str {
    match accident {
        Accident::Writes => {
            "guard every write of this map with the same sync.Mutex, or give each shard of it a \
             lock of its own, or use sync.Map"
        }
        Accident::ReadAndWrite => {
            "guard this map with one sync.RWMutex, reads with RLock too; or use sync.Map if it \
             is mostly read"
        }
        Accident::IterationAndWrite => {
            "hold the lock of this map for the whole loop, or copy the keys under the lock and \
             iterate over the copy"
        }
        Accident::CloneAndWrite => "hold the lock that the writers of this map take while cloning",
    }
}

fn creation(origin: Option<&Origin>, names: Names<'_>) -> Option<Creation> {
    let origin = origin?;
    // A return address, so not the first of a stack.
    let frame = names(&[0, origin.creator?]).into_iter().next().map(frame)?;
    Some(Creation {
        goroutine: origin.parent,
        frame,
    })
}

fn first_function(origin: Option<&Origin>, names: Names<'_>) -> Option<String> {
    let frames = names(&[origin?.start?]);
    frames.into_iter().next_back().map(|frame| frame.function)
}

impl Side {
    fn new(party: &Party, names: Names<'_>) -> Self {
        Self {
            goroutine: party.goroutine,
            tid: party.tid,
            operation: Some(party.operation.name()),
            age_ns: Some(party.age_ns),
            stack: frames(names(&party.stack)),
            addresses: addresses(&party.stack),
            created_by: creation(party.origin.as_ref(), names),
            first_function: first_function(party.origin.as_ref(), names),
        }
    }
}

pub(super) fn frames(frames: Vec<go::Frame>) -> Vec<Frame> {
    frames.into_iter().map(frame).collect()
}

fn frame(frame: go::Frame) -> Frame {
    Frame {
        function: frame.function,
        file: frame.file,
        line: frame.line,
    }
}

fn addresses(stack: &[u64]) -> Vec<String> {
    stack.iter().copied().map(hexadecimal).collect()
}

fn hexadecimal(address: u64) -> String {
    format!("{address:#x}")
}

fn fields(values: Vec<map_header::Value>) -> Vec<Field> {
    values
        .into_iter()
        .map(|(name, value)| Field { name, value })
        .collect()
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
        "fatal error in process {}: {}{}\n",
        report.pid,
        Clean(&report.message),
        if report.message_cut { " …" } else { "" }
    );
    label(&mut page, "", &report.recover);
    side(&mut page, "found by", &report.victim);
    if let Some(other) = &report.other {
        side(&mut page, "ran into", other);
        let because = report.because.join("; ");
        if let Some(confidence) = report.confidence {
            label(
                &mut page,
                "",
                &format!("{confidence} confidence: {because}"),
            );
        }
        for doubt in &report.doubts {
            label(&mut page, "", &format!("in doubt: {doubt}"));
        }
    }
    if let Some(why) = report.no_other {
        label(&mut page, "ran into", &format!("not known: {why}"));
    }
    if let Some(map) = &report.map {
        describe(&mut page, map);
    }
    history(&mut page, &report.history);
    match report.own_report {
        Some("victim_only") => label(
            &mut page,
            "go",
            "the program's own report shows only the first of the two",
        ),
        Some(_) => label(
            &mut page,
            "go",
            "the program's own report shows the second unmarked, among all goroutines",
        ),
        None => {}
    }
    if let Some(remedy) = report.remedy {
        label(&mut page, "remedy", remedy);
    }
    if let Some(held) = &report.held {
        hold(&mut page, report.pid, held);
    }
    page
}

fn hold(page: &mut String, pid: u32, held: &Held) {
    let words = format!(
        "the process is stopped for {} and then ends: gdb -p {pid} or dlv attach {pid} can look \
         into it; its threads are at",
        Time(held.for_ns)
    );
    label(page, "held", &words);
    for thread in &held.threads {
        let at = thread.frame.as_ref().map(place);
        let at = at.unwrap_or_else(|| "not in the program's own code".to_owned());
        let _ = writeln!(page, "{:INDENT$}  {:<8} {at}", "", thread.tid);
    }
}

pub(super) fn label(page: &mut String, label: &str, words: &str) {
    let _ = write!(page, "{label:INDENT$}");
    wrap(page, INDENT, WIDTH, words);
}

fn side(page: &mut String, name: &str, side: &Side) {
    let mut words = format!("goroutine {} (thread {})", side.goroutine, side.tid);
    match (side.operation, side.age_ns) {
        (Some(operation), Some(age)) => {
            let _ = write!(words, ": {operation}, begun {} before", Time(age));
        }
        (Some(operation), None) => {
            let _ = write!(words, ": {operation}, by its stack");
        }
        (None, _) => {}
    }
    label(page, name, &words);
    if side.stack.is_empty() {
        for address in &side.addresses {
            let _ = writeln!(page, "{:INDENT$}  {address}", "");
        }
    }
    for frame in &side.stack {
        let _ = writeln!(page, "{:INDENT$}  {}", "", place(frame));
    }
    if let Some(created) = &side.created_by {
        let by = created.goroutine.map(|id| format!(" in goroutine {id}"));
        let words = format!(
            "created by {}{}",
            place(&created.frame),
            by.unwrap_or_default()
        );
        label(page, "", &words);
    }
}

pub(super) fn place(frame: &Frame) -> String {
    let (function, file) = (Clean(&frame.function), Clean(&frame.file));
    format!("{function}  {file}:{}", frame.line)
}

fn describe(page: &mut String, map: &Map) {
    let mut words = map.address.clone();
    if let Some(kind) = map.kind {
        let _ = write!(words, ", {kind}");
    }
    if let Some(name) = map.type_name.as_ref().or(map.map_type.as_ref()) {
        let _ = write!(words, ", type {}", Clean(name));
    }
    if map.writing == Some(true) {
        words.push_str(", being written to");
    }
    for field in &map.header {
        let _ = write!(words, ", {} {}", field.name, shown(field));
    }
    label(page, "map", &words);
    if !map.iterator.is_empty() {
        let fields = map.iterator.iter();
        let fields: Vec<_> = fields
            .map(|field| format!("{} {}", field.name, shown(field)))
            .collect();
        label(page, "iterator", &fields.join(", "));
    }
}

/// Addresses and flags in hexadecimal.
fn shown(field: &Field) -> String {
    match field.name {
        "flags" | "buckets" | "old_buckets" | "directory" => hexadecimal(field.value),
        _ => field.value.to_string(),
    }
}

fn history(page: &mut String, history: &[Past]) {
    let skipped = history.len().saturating_sub(SHOWN_HISTORY);
    for (index, past) in history[skipped..].iter().enumerate() {
        let caller = past.caller.as_ref().map(place).unwrap_or_default();
        let _ = writeln!(
            page,
            "{:INDENT$}{:>8} before  goroutine {:<6} {:<13} {caller}",
            if index == 0 { "history" } else { "" },
            Time(past.age_ns).to_string(),
            past.goroutine,
            past.operation,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{super::documented, *};
    use crate::explain::fatal::fixture;

    const HEADING: &str = "## The lines of `injector maps`: `fatal`\n";

    fn names(stack: &[u64]) -> Vec<go::Frame> {
        stack
            .iter()
            .filter(|address| **address != 0)
            .map(|address| go::Frame {
                function: format!("main.at_{address:x}"),
                file: "/src/main.go".to_owned(),
                line: 31,
            })
            .collect()
    }

    fn report() -> Report {
        let mut record =
            fixture::record("concurrent map iteration and map write", Event::IterateNext);
        let map = &mut record.maps[0];
        fixture::write(map, 0, fixture::op(8, Event::Assign, 1_900));
        fixture::write(map, 1, fixture::op(9, Event::Assign, 1_500));
        let writing = go::WritingBit {
            offset: 34,
            mask: 1,
        };
        map.header[34] = 1;
        let fatal = Fatal::new(&record, Some(26), Some(writing), &names);
        let caller = |addresses: &[u64]| names(&addresses[..1]).pop();
        let mut report = Report::named(&fatal, Some("go1.26.6".into()), &names, &caller);
        let map = report.map.as_mut().unwrap();
        map.kind = Some("swiss");
        map.type_name = Some("map[int]int".to_owned());
        map.header = fields(vec![("elements", 12), ("directory", 0x1000)]);
        map.iterator = fields(vec![("depth", 1)]);
        report.held(500_000_000, &[(107, 0x40_3000)], &names);
        report
    }

    #[test]
    fn people_see_both_sides() {
        let page = page(&report());
        let expected = "\
fatal error in process 4242: concurrent map iteration and map write
          recover() cannot catch this: it is no panic. runtime.fatal ends the process without
          unwinding any stack, so no deferred function runs, because the map may be damaged
found by  goroutine 7 (thread 107): iterate_next, begun 300ns before
            main.at_403000  /src/main.go:31
            main.at_401010  /src/main.go:31
            main.at_402007  /src/main.go:31
ran into  goroutine 9 (thread 109): assign, begun 1.5us before
            main.at_401000  /src/main.go:31
            main.at_402009  /src/main.go:31
          created by main.at_405001 /src/main.go:31 in goroutine 1
          medium confidence: it wrote this map last, of all others; the map was still marked as
          being written to
          in doubt: another goroutine wrote within the same microsecond
map       0xc000012340, swiss, type map[int]int, being written to, elements 12, directory 0x1000
iterator  depth 1
history      1.9us before  goroutine 8      assign        main.at_402008  /src/main.go:31
             1.5us before  goroutine 9      assign        main.at_402009  /src/main.go:31
go        the program's own report shows only the first of the two
remedy    hold the lock of this map for the whole loop, or copy the keys under the lock and iterate
          over the copy
held      the process is stopped for 500ms and then ends: gdb -p 4242 or dlv attach 4242 can look
          into it; its threads are at
            107      main.at_403000  /src/main.go:31
";
        assert_eq!(page, expected);
    }

    #[test]
    fn names_from_the_program_cannot_move_the_cursor() {
        let mut report = report();
        report.message = "a\u{1b}[2Jb".to_owned();
        report.victim.stack[0].function = "c\u{1b}[2Jd".to_owned();
        assert!(!page(&report).contains('\u{1b}'));
    }

    #[test]
    fn the_document_has_every_field() {
        let mut report = report();
        report.no_other = Some("why");
        let written = documented::keys(&serde_json::to_value(&report).unwrap());
        assert_eq!(written, documented::names(HEADING));
    }
}
