//! One JSON object per line. Fields and their meaning are in `docs/json.md`,
//! which the tests hold this file to.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use injector_ebpf::{Guard, Hook, Protocol, SendRecord, Verdict, flags};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{errno, mode_name, nanoseconds};
use crate::explain::{Address, Lossy, RunInfo, SendView, Summary, Tally, Times, Totals};

/// Writes lines from a buffer that it uses again and again.
#[derive(Debug, Default)]
pub struct Json {
    buffer: Vec<u8>,
}

impl Json {
    /// Writes one send, noteworthy or not.
    pub fn send(&mut self, out: &mut dyn Write, record: &SendRecord) -> io::Result<()> {
        self.line(out, &Send::new(record))
    }

    /// Writes how the run is going.
    pub fn status(
        &mut self,
        out: &mut dyn Write,
        totals: &Totals,
        elapsed: Duration,
    ) -> io::Result<()> {
        let status = Status {
            kind: "status",
            elapsed_ns: nanoseconds(elapsed),
            counters: Counters(totals),
        };
        self.line(out, &status)
    }

    /// Writes the end report.
    pub fn summary(
        &mut self,
        out: &mut dyn Write,
        info: &RunInfo,
        summary: &Summary,
        totals: &Totals,
    ) -> io::Result<()> {
        self.line(out, &Report::new(info, summary, totals))
    }

    fn line(&mut self, out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, value)?;
        self.buffer.push(b'\n');
        out.write_all(&self.buffer)
    }
}

/// The end report as a value.
pub(super) fn report(info: &RunInfo, summary: &Summary, totals: &Totals) -> Value {
    serde_json::to_value(Report::new(info, summary, totals)).expect("its keys are strings")
}

/// Serializes what it displays, without a string in between.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Stands for an enum number that the ABI does not know.
const UNKNOWN: &str = "unknown";

#[derive(Serialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the record by its name"
)]
struct Send<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    pid: u32,
    tid: u32,
    comm: Text<Lossy<'a>>,
    cgroup: u64,
    protocol: &'static str,
    ipv6: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<Text<Address<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Text<Address<'a>>>,
    hook: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_name: Option<Text<errno::Name>>,
    rule: u8,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_ordinal: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    natural_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ns: Option<u64>,
    flagged: bool,
    failed: bool,
    signalled: bool,
    capped: bool,
    shortened: bool,
    afterwards: bool,
    non_blocking: bool,
    batch: bool,
    no_start: bool,
}

impl<'a> Send<'a> {
    fn new(record: &'a SendRecord) -> Self {
        let send = SendView::new(record);
        let errno = send.errno();
        Self {
            kind: "send",
            start_ns: send.start(),
            pid: record.tgid,
            tid: record.tid,
            comm: Text(send.comm()),
            cgroup: record.cgroup,
            protocol: send.protocol().map_or(UNKNOWN, Protocol::name),
            ipv6: send.has(flags::IPV6),
            local: send.local().known().map(Text),
            peer: send.peer().known().map(Text),
            hook: send.hook().map_or(UNKNOWN, Hook::name),
            place: send.place(),
            asked_bytes: send.asked_bytes(),
            sent_bytes: send.sent_bytes(),
            sent_messages: send.sent_messages(),
            errno,
            errno_name: errno.and_then(errno::name).map(Text),
            rule: record.rule,
            verdict: send.verdict().map_or(UNKNOWN, Verdict::name),
            guard: send.guard().map(Guard::name),
            call_index: send.matched().then_some(record.call_index),
            thread_ordinal: send.matched().then_some(record.thread_ordinal),
            goroutine: send.goroutine(),
            asked_ns: send.asked(),
            delivered_ns: send.delivered(),
            natural_ns: send.natural(),
            total_ns: send.total(),
            flagged: send.has(flags::FLAGGED),
            failed: send.has(flags::FAILED),
            signalled: send.signalled() || send.would_signal(),
            capped: send.has(flags::CAPPED),
            shortened: send.has(flags::SHORTENED),
            afterwards: send.has(flags::AFTER),
            non_blocking: send.has(flags::NON_BLOCKING),
            batch: send.has(flags::BATCH),
            no_start: send.has(flags::NO_START),
        }
    }
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    elapsed_ns: u64,
    counters: Counters<'a>,
}

/// Every counter by its name.
struct Counters<'a>(&'a Totals);

impl Serialize for Counters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, _, value) in self.0.rows() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    targets: &'a str,
    rules: &'a [String],
    mode: &'static str,
    seed: u64,
    hook: &'a str,
    engine: &'a str,
    ended: &'a str,
    start_ns: u64,
    elapsed_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_send_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_send_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_cpu_ns: Option<u64>,
    counters: Counters<'a>,
    in_flight: u64,
    programs_skipped: u64,
    sends: Counts,
    asked_delay: Distribution,
    delivered_delay: Distribution,
    delay_error: Distribution,
    natural_baseline: Distribution,
    natural_injected: Distribution,
    early_delays: u64,
    by_protocol: Vec<ByProtocol>,
    by_rule: Vec<ByRule>,
    by_process: Vec<ByProcess<'a>>,
    other_processes: Counts,
    errnos: Vec<ByErrno>,
    worst: Vec<Send<'a>>,
}

impl<'a> Report<'a> {
    fn new(info: &'a RunInfo, summary: &'a Summary, totals: &'a Totals) -> Self {
        Self {
            kind: "summary",
            targets: &info.targets,
            rules: &info.rules,
            mode: mode_name(info.mode),
            seed: info.seed,
            hook: &info.hook,
            engine: &info.engine,
            ended: &info.ended,
            start_ns: info.start_ns,
            elapsed_ns: nanoseconds(info.elapsed),
            first_send_ns: summary.span.map(|(first, _)| first),
            last_send_ns: summary.span.map(|(_, last)| last),
            own_cpu_ns: info.own_cpu.map(nanoseconds),
            counters: Counters(totals),
            in_flight: info.in_flight,
            programs_skipped: info.skipped,
            sends: Counts::new(&summary.total),
            asked_delay: Distribution::new(&summary.asked),
            delivered_delay: Distribution::new(&summary.delivered),
            delay_error: Distribution::new(&summary.error),
            natural_baseline: Distribution::new(&summary.natural_baseline),
            natural_injected: Distribution::new(&summary.natural_delayed),
            early_delays: summary.early,
            by_protocol: summary
                .protocols()
                .map(|(protocol, tally)| ByProtocol {
                    protocol: protocol.map_or(UNKNOWN, Protocol::name),
                    sends: Counts::new(tally),
                })
                .collect(),
            by_rule: summary
                .rules()
                .map(|(rule, tally)| ByRule {
                    rule,
                    sends: Counts::new(tally),
                })
                .collect(),
            by_process: summary
                .processes()
                .into_iter()
                .map(|process| ByProcess {
                    pid: process.tgid,
                    comm: Text(process.comm()),
                    sends: Counts::new(&process.tally),
                })
                .collect(),
            other_processes: Counts::new(&summary.other_processes),
            errnos: summary
                .errnos()
                .map(|(errno, outcome)| ByErrno {
                    errno,
                    errno_name: errno.and_then(errno::name).map(Text),
                    own: outcome.own,
                    injected: outcome.injected,
                })
                .collect(),
            worst: summary.worst().into_iter().map(Send::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct ByProtocol {
    protocol: &'static str,
    sends: Counts,
}

#[derive(Serialize)]
struct ByRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<usize>,
    sends: Counts,
}

#[derive(Serialize)]
struct ByProcess<'a> {
    pid: u32,
    comm: Text<Lossy<'a>>,
    sends: Counts,
}

#[derive(Serialize)]
struct ByErrno {
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_name: Option<Text<errno::Name>>,
    own: u64,
    injected: u64,
}

#[derive(Serialize)]
struct Counts {
    count: u64,
    matched: u64,
    chosen: u64,
    suppressed: u64,
    shadowed: u64,
    delayed: u64,
    capped: u64,
    flagged: u64,
    failed: u64,
    signalled: u64,
    would_delay: u64,
    would_fail: u64,
    would_signal: u64,
    would_suppress: u64,
    errors: u64,
    no_start: u64,
    asked_ns: u64,
    delivered_ns: u64,
    sent_bytes: u64,
}

impl Counts {
    fn new(tally: &Tally) -> Self {
        Self {
            count: tally.sends,
            matched: tally.matched,
            chosen: tally.chosen,
            suppressed: tally.suppressed,
            shadowed: tally.shadowed,
            delayed: tally.delayed,
            capped: tally.capped,
            flagged: tally.flagged,
            failed: tally.failed,
            signalled: tally.signalled,
            would_delay: tally.would_delay,
            would_fail: tally.would_fail,
            would_signal: tally.would_signal,
            would_suppress: tally.would_suppress,
            errors: tally.errors,
            no_start: tally.no_start,
            asked_ns: tally.asked_ns,
            delivered_ns: tally.delivered_ns,
            sent_bytes: tally.sent_bytes,
        }
    }
}

#[derive(Serialize)]
struct Distribution {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p90_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ns: Option<u64>,
    histogram: Vec<Row>,
}

impl Distribution {
    fn new(times: &Times) -> Self {
        Self {
            count: times.count(),
            min_ns: times.min(),
            mean_ns: times.mean(),
            p50_ns: times.quantile(0.5),
            p90_ns: times.quantile(0.9),
            p99_ns: times.quantile(0.99),
            max_ns: times.max(),
            histogram: times
                .rows()
                .filter(|(_, _, count)| *count > 0)
                .map(|(from_ns, below_ns, count)| Row {
                    from_ns,
                    below_ns,
                    count,
                })
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct Row {
    from_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    below_ns: Option<u64>,
    count: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use injector_ebpf::{COUNTERS, Mode};
    use proptest::prelude::*;

    use super::super::fixture as run;
    use super::*;
    use crate::explain::fixture;

    const DOC: &str = include_str!("../../../docs/json.md");

    struct Field {
        kind: String,
        always: bool,
        meaning: String,
    }

    /// What the document says: each heading that names an object, with the
    /// table and the example under it.
    #[derive(Default)]
    struct Section {
        fields: BTreeMap<String, Field>,
        example: String,
    }

    fn document() -> BTreeMap<String, Section> {
        let mut sections = BTreeMap::<String, Section>::new();
        let mut current = None;
        let mut example = false;
        for line in DOC.lines() {
            if line.starts_with('#') {
                let name = line.trim_start_matches('#').trim();
                let name = name
                    .strip_prefix('`')
                    .and_then(|name| name.strip_suffix('`'));
                current = name.map(|name| sections.entry(name.to_owned()).or_default());
                continue;
            }
            let Some(section) = current.as_mut() else {
                continue;
            };
            if line.starts_with("```") {
                example = line == "```json";
            } else if example {
                section.example.push_str(line);
            } else if let Some(row) = line.strip_prefix("| `") {
                let cells: Vec<_> = row.split('|').map(str::trim).collect();
                let field = Field {
                    kind: cells[1].replace('`', ""),
                    always: cells[2] == "always",
                    meaning: cells[3].to_owned(),
                };
                section
                    .fields
                    .insert(cells[0].trim_end_matches('`').to_owned(), field);
            }
        }
        sections
    }

    /// Holds a value to a section of the document, and notes which fields it has.
    struct Check<'a> {
        document: &'a BTreeMap<String, Section>,
        met: BTreeSet<(String, String)>,
    }

    impl<'a> Check<'a> {
        fn new(document: &'a BTreeMap<String, Section>) -> Self {
            Self {
                document,
                met: BTreeSet::new(),
            }
        }

        fn object(&mut self, section: &str, value: &Value) {
            let fields = &self.document.get(section).expect(section).fields;
            let object = value.as_object().expect(section);
            for (name, value) in object {
                let field = fields.get(name);
                let field = field.unwrap_or_else(|| panic!("{section}.{name} is not documented"));
                self.value(&format!("{section}.{name}"), &field.kind, value);
                self.met.insert((section.to_owned(), name.clone()));
            }
            for (name, _) in fields.iter().filter(|(_, field)| field.always) {
                assert!(object.contains_key(name), "{section}.{name} is missing");
            }
        }

        fn value(&mut self, path: &str, kind: &str, value: &Value) {
            match (kind, kind.strip_prefix("array of ")) {
                (_, Some(item)) => {
                    let items = value.as_array().expect(path);
                    for value in items {
                        self.value(path, item, value);
                    }
                }
                ("string", _) => assert!(value.is_string(), "{path}"),
                ("integer", _) => assert!(value.is_u64(), "{path}"),
                ("boolean", _) => assert!(value.is_boolean(), "{path}"),
                (section, _) => self.object(section, value),
            }
        }
    }

    fn send(record: &SendRecord) -> Value {
        let mut out = Vec::new();
        Json::default().send(&mut out, record).unwrap();
        parse(&out)
    }

    fn status(totals: &Totals, elapsed: Duration) -> Value {
        let mut out = Vec::new();
        Json::default().status(&mut out, totals, elapsed).unwrap();
        parse(&out)
    }

    fn summary(mode: Mode, records: &[SendRecord]) -> Value {
        let summary = fixture::summary(records);
        let mut out = Vec::new();
        Json::default()
            .summary(&mut out, &run::info(mode), &summary, &run::totals(&summary))
            .unwrap();
        parse(&out)
    }

    fn parse(line: &[u8]) -> Value {
        let newline = line.iter().position(|byte| *byte == b'\n');
        assert_eq!(newline, Some(line.len() - 1));
        serde_json::from_slice(line).unwrap()
    }

    /// Sends that together have every field there is.
    fn samples() -> Vec<SendRecord> {
        let mut records = run::records(Mode::Enforce);
        let mut odd = fixture::delayed(u64::MAX, u64::MAX, 1);
        odd.rule = 200;
        odd.result = -5_000;
        records.push(odd);
        records.push(SendRecord {
            flags: flags::BATCH,
            ..fixture::send()
        });
        records
    }

    #[test]
    fn every_field_is_documented_and_every_documented_field_exists() {
        let document = document();
        let mut check = Check::new(&document);
        let samples = samples();
        for record in &samples {
            check.object("send", &send(record));
        }
        check.object("status", &status(&Totals::default(), Duration::ZERO));
        check.object("summary", &summary(Mode::Enforce, &samples));
        check.object("summary", &summary(Mode::Shadow, &[]));
        let documented: BTreeSet<_> = document
            .iter()
            .flat_map(|(section, of)| {
                of.fields
                    .keys()
                    .map(|field| (section.clone(), field.clone()))
            })
            .collect();
        assert_eq!(documented, check.met);
    }

    #[test]
    fn counters_are_documented_in_the_words_of_the_abi() {
        let document = document();
        let counters = &document["counters"].fields;
        assert_eq!(counters.len(), COUNTERS.len());
        for (_, name, meaning) in COUNTERS {
            assert_eq!(counters[*name].meaning, meaning.trim(), "{name}");
        }
    }

    #[test]
    fn every_name_of_an_enum_is_in_the_document() {
        let verdicts = Verdict::ALL.iter().map(|(_, name, _)| name);
        let hooks = Hook::ALL.iter().map(|(_, name, _)| name);
        let protocols = Protocol::ALL.iter().map(|(_, name, _)| name);
        let guards = Guard::ALL.iter().map(|(_, name, _)| name);
        for name in verdicts
            .chain(hooks)
            .chain(protocols)
            .chain(guards.filter(|name| **name != "none"))
        {
            assert!(DOC.contains(&format!("`{name}`")), "{name}");
        }
    }

    /// The examples are what is written, not what was written once.
    #[test]
    fn examples_are_what_is_written() {
        let document = document();
        let records = run::records(Mode::Enforce);
        let totals = run::totals(&fixture::summary(&records));
        for (section, written) in [
            ("send", send(&records[217])),
            ("status", status(&totals, Duration::from_secs(10))),
            ("summary", summary(Mode::Enforce, &records[216..219])),
        ] {
            let example: Value = serde_json::from_str(&document[section].example).unwrap();
            for (field, written) in written.as_object().unwrap() {
                assert_eq!(example[field], *written, "{section}.{field}: {written}");
            }
            assert_eq!(example, written);
        }
    }

    #[test]
    fn what_was_not_measured_is_absent() {
        let lost = SendRecord {
            flags: flags::NO_START | flags::BYTES_UNKNOWN,
            ..fixture::delayed(1, 1, 1)
        };
        let line = send(&lost);
        for field in [
            "start_ns",
            "asked_ns",
            "delivered_ns",
            "natural_ns",
            "total_ns",
            "asked_bytes",
            "errno",
            "guard",
        ] {
            assert_eq!(line.get(field), None, "{field}");
        }
        assert_eq!(line["no_start"], true);
        let empty = summary(Mode::Shadow, &[]);
        assert_eq!(empty["asked_delay"]["count"], 0);
        assert_eq!(empty["asked_delay"].get("p50_ns"), None);
    }

    #[test]
    fn names_of_strangers_are_escaped() {
        let mut record = fixture::send();
        record.comm = *b"a\"b\\c\n\x1b\xff\0\0\0\0\0\0\0\0";
        assert_eq!(send(&record)["comm"], "a\"b\\c\n\u{1b}\u{fffd}");
    }

    #[test]
    fn a_buffer_is_used_again() {
        let mut json = Json::default();
        let mut out = Vec::new();
        json.send(&mut out, &fixture::send()).unwrap();
        let capacity = json.buffer.capacity();
        for _ in 0..100 {
            json.send(&mut out, &fixture::send()).unwrap();
        }
        assert_eq!(json.buffer.capacity(), capacity);
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        let error = Json::default()
            .send(&mut run::Closed, &fixture::send())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn any_record_is_a_documented_line(record in fixture::any_record()) {
            let document = document();
            Check::new(&document).object("send", &send(&record));
        }
    }

    proptest! {
        // Each case goes through all cells of five histograms.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_records_are_a_documented_summary(
            records in prop::collection::vec(fixture::any_record(), 0..30),
        ) {
            let document = document();
            let line = summary(Mode::Enforce, &records);
            Check::new(&document).object("summary", &line);
            prop_assert_eq!(&line["sends"]["count"], records.len());
            for distribution in ["asked_delay", "delivered_delay", "natural_baseline"] {
                let of = &line[distribution];
                let rows = of["histogram"].as_array().unwrap().iter();
                let sum: u64 = rows.map(|row| row["count"].as_u64().unwrap()).sum();
                prop_assert_eq!(&of["count"], sum);
            }
        }
    }
}
