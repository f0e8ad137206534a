//! What a run concluded of maps and locks, at its end: tables for people, or one
//! JSON object, with the ten gravest findings, whose fields are in `docs/json.md`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::Value;

use super::{
    json_line,
    maps_finding::{Conclusion, Frame, Side, Subject},
    maps_table,
    text::wrap,
    units::Time,
};
use crate::explain::maps::{
    self, Arrangement, Blame, Collections, Finding, LockView, MapView, NoLocks, Parts, SummedUp,
    SyncView, Trace, Waits,
};

/// Findings that are told again at the end.
const FINDINGS: usize = 10;
/// Fewer sends than this say little of others.
const FEW: u64 = 30;
/// Rows of each table.
const ROWS: usize = 12;
/// Maps, `sync.Map`s and locks each in JSON.
const JSON_ROWS: usize = 100;

/// All that is told.
struct Known {
    maps: Vec<MapView>,
    sync_maps: Vec<SyncView>,
    locks: Vec<LockView>,
    arrangements: Vec<Arrangement>,
    collections: Collections,
    no_locks: NoLocks,
    summed_up: SummedUp,
    limits: Vec<(&'static str, u64, &'static str)>,
    sends: Option<Sends>,
    findings: Vec<Finding>,
}

/// What sends have made goroutines wait for locks.
#[derive(Debug, Serialize)]
struct Sends {
    injected_ns: u64,
    waited_ns: u64,
    waited_injected_ns: u64,
    waited_sending_ns: u64,
    waited_pausing_ns: u64,
    waited_no_cpu_ns: u64,
    waited_unexplained_ns: u64,
    waited_chained_ns: u64,
    forgotten: u64,
    delayed: Group,
    not_delayed: Group,
    would_delay: Group,
}

/// What sends of one kind have caused.
#[derive(Clone, Copy, Debug, Serialize)]
struct Group {
    sends_count: u64,
    delay_ns: u64,
    natural_ns: u64,
    waits_count: u64,
    caused_wait_ns: u64,
}

impl From<maps::Group> for Group {
    fn from(group: maps::Group) -> Self {
        Self {
            sends_count: group.sends,
            delay_ns: group.delay_ns,
            natural_ns: group.natural_ns,
            waits_count: group.waits,
            caused_wait_ns: group.waited_ns,
        }
    }
}

/// What the waits for a lock were for.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names of the output")]
struct For {
    injected_ns: u64,
    sending_ns: u64,
    pausing_ns: u64,
    no_cpu_ns: u64,
    unexplained_ns: u64,
    chained_ns: u64,
}

impl From<Parts> for For {
    fn from(parts: Parts) -> Self {
        Self {
            injected_ns: parts.injected,
            sending_ns: parts.sending,
            pausing_ns: parts.pausing,
            no_cpu_ns: parts.no_cpu,
            unexplained_ns: parts.unexplained,
            chained_ns: parts.chained,
        }
    }
}

impl From<&Blame> for Sends {
    fn from(blame: &Blame) -> Self {
        Self {
            injected_ns: blame.injected_ns,
            waited_ns: blame.waits.whole(),
            waited_injected_ns: blame.waits.injected,
            waited_sending_ns: blame.waits.sending,
            waited_pausing_ns: blame.waits.pausing,
            waited_no_cpu_ns: blame.waits.no_cpu,
            waited_unexplained_ns: blame.waits.unexplained,
            waited_chained_ns: blame.waits.chained,
            forgotten: blame.forgotten,
            delayed: blame.delayed.into(),
            not_delayed: blame.undelayed.into(),
            would_delay: blame.shadowed.into(),
        }
    }
}

impl Known {
    fn of(trace: &Trace, rows: usize) -> Self {
        let limits = trace.limits().rows().into_iter();
        Self {
            maps: trace.maps(rows),
            sync_maps: trace.sync_maps(rows),
            locks: trace.locks(rows),
            arrangements: trace.arrangements(),
            collections: trace.collections(),
            no_locks: trace.no_locks(),
            summed_up: trace.summed_up(),
            limits: limits.filter(|(_, count, _)| *count > 0).collect(),
            sends: trace.blame().map(Sends::from),
            findings: trace.findings(),
        }
    }
}

/// Writes it for people.
pub fn text(out: &mut dyn Write, trace: &Trace) -> io::Result<()> {
    out.write_all(page(&Known::of(trace, ROWS)).as_bytes())
}

/// Writes one JSON object in a line.
pub fn json(out: &mut dyn Write, pid: u32, trace: &Trace) -> io::Result<()> {
    let known = Known::of(trace, JSON_ROWS);
    json_line(out, &Report::new(pid, &known))
}

/// The same object, with so many rows of each table.
pub(super) fn value(pid: u32, trace: &Trace, rows: usize) -> Value {
    let known = Known::of(trace, rows);
    serde_json::to_value(Report::new(pid, &known)).expect("its keys are strings")
}

fn page(known: &Known) -> String {
    let mut page = String::new();
    maps_table::maps(&mut page, &known.maps);
    maps_table::sync_maps(&mut page, &known.sync_maps);
    maps_table::locks(&mut page, &known.locks);
    if known.arrangements.len() > 1 {
        page.push_str("\nwaiting by how maps are guarded:\n");
        for one in &known.arrangements {
            let per_op = match one.ns_per_op {
                Some(ns) => format!("{} per operation", Time(ns.round() as u64)),
                None => "operations not seen".to_owned(),
            };
            let _ = writeln!(
                page,
                "  {:<28} {:>5} maps {:>5} waits {:>7}  {per_op}",
                one.name,
                one.maps,
                one.waits.count,
                Time(one.waits.total_ns)
            );
        }
    }
    let pauses = known.collections.pauses;
    if pauses.count > 0 {
        let _ = writeln!(
            page,
            "\ngarbage collections {} ({}); pauses of the whole program {} ({}, longest {})",
            known.collections.collections.count,
            Time(known.collections.collections.total_ns),
            pauses.count,
            Time(pauses.total_ns),
            Time(pauses.max_ns)
        );
    }
    if let Some(sends) = &known.sends {
        page.push('\n');
        wrap(&mut page, 0, 80, &caused(sends));
    }
    let summed = known.summed_up;
    if summed.maps + summed.locks > 0 {
        let text = format!(
            "not shown one by one: {} more maps with {} operations, {} more locks with {} waits",
            summed.maps,
            summed.ops.all(),
            summed.locks,
            summed.waits.count
        );
        wrap(&mut page, 0, 80, &text);
    }
    for (name, count, meaning) in &known.limits {
        let _ = writeln!(page, "{name}: {count} ({meaning})");
    }
    page
}

/// What became of the delays, in words.
fn caused(sends: &Sends) -> String {
    let mut text = format!(
        "waits for locks: {}; {} of it while the holder was in a send, {} of that in injected \
         delays; {} are not explained by sends",
        Time(sends.waited_ns),
        Time(sends.waited_injected_ns + sends.waited_sending_ns),
        Time(sends.waited_injected_ns),
        Time(sends.waited_unexplained_ns),
    );
    if sends.injected_ns > 0 {
        let _ = write!(
            text,
            ". {} of injected delay became {} of waiting for locks ({:.2} for 1)",
            Time(sends.injected_ns),
            Time(sends.waited_injected_ns),
            sends.waited_injected_ns as f64 / sends.injected_ns as f64
        );
    }
    if sends.waited_pausing_ns > 0 {
        let _ = write!(
            text,
            ". In {} of the rest no goroutine could run (garbage collector)",
            Time(sends.waited_pausing_ns)
        );
    }
    if sends.waited_no_cpu_ns > 0 {
        let _ = write!(
            text,
            ". In {} of the rest the holder could run and had no CPU",
            Time(sends.waited_no_cpu_ns)
        );
    }
    for (what, group) in [
        ("delayed", sends.delayed),
        ("that were not delayed", sends.not_delayed),
        ("that would have been delayed", sends.would_delay),
    ] {
        if group.sends_count > 0 {
            text.push_str(&each(what, group));
        }
    }
    if sends.forgotten > 0 {
        let _ = write!(
            text,
            ". {} goroutines were forgotten to make room, and with them what they did",
            sends.forgotten
        );
    }
    text
}

/// What others waited for sends of one kind, so that kinds can be compared.
fn each(what: &str, group: Group) -> String {
    let mut text = format!(
        ". Sends {what}: {}, which others waited {} for in {} waits, {} for each send",
        group.sends_count,
        Time(group.caused_wait_ns),
        group.waits_count,
        Time(group.caused_wait_ns / group.sends_count)
    );
    if group.sends_count < FEW {
        text.push_str(" (few sends: that says little)");
    }
    text
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: u32,
    maps: Vec<Map>,
    sync_maps: Vec<Sync>,
    locks: Vec<Lock>,
    arrangements: Vec<Way<'a>>,
    collections: Times,
    pauses: Times,
    no_locks: Others,
    summed_up: Sum,
    limits: Vec<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sends: Option<&'a Sends>,
    all_findings: usize,
    findings: Vec<Conclusion<'a>>,
}

#[derive(Debug, Serialize)]
struct Times {
    count: u64,
    total_ns: u64,
    max_ns: u64,
}

#[derive(Debug, Serialize)]
struct Operations {
    reads: u64,
    assigns: u64,
    deletes: u64,
    clears: u64,
    iterations: u64,
    steps: u64,
    growths: u64,
}

#[derive(Debug, Serialize)]
struct Used {
    what: &'static str,
    count: u64,
    place: Frame,
}

#[derive(Debug, Serialize)]
struct Started {
    function: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Guard {
    lock: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    confidence: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct Risk {
    claim: &'static str,
    confidence: &'static str,
}

#[derive(Debug, Serialize)]
struct Map {
    about: Subject,
    name_measured: bool,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    elements: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets_or_tables: Option<u64>,
    operations: Operations,
    operations_during_gc: u64,
    goroutines: u64,
    started_as: Vec<Started>,
    used_at: Vec<Used>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<Guard>,
    shards: u64,
    waits: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_for: Option<For>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<Risk>,
}

#[derive(Debug, Serialize)]
struct Sync {
    about: Subject,
    loads: u64,
    stores: u64,
    deletes: u64,
    ranges: u64,
    ranges_over: u64,
    ranges_disturbed: u64,
    waits: Times,
}

#[derive(Debug, Serialize)]
struct Lock {
    about: Subject,
    waits: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ns: Option<u64>,
    mutex: Times,
    writers: Times,
    readers: Times,
    still_waiting: u32,
    still_waiting_max_ns: u64,
    unmeasured: u64,
    paused_ns: u64,
    waits_during_gc: u64,
    waiters: Vec<Side>,
    holders: Vec<Side>,
    guards: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_for: Option<For>,
}

#[derive(Debug, Serialize)]
struct Way<'a> {
    name: &'a str,
    maps_count: u64,
    locks_count: u64,
    seen_operations: u64,
    waits: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_ns_per_operation: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Others {
    wait_groups: Times,
    files: Times,
    runtime: Times,
    unknown: Times,
}

#[derive(Debug, Serialize)]
struct Sum {
    maps_count: u64,
    seen_operations: u64,
    sync_map_operations: u64,
    locks_count: u64,
    waits: Times,
}

#[derive(Debug, Serialize)]
struct Limit {
    name: &'static str,
    count: u64,
    meaning: &'static str,
}

impl From<Waits> for Times {
    fn from(waits: Waits) -> Self {
        Self {
            count: waits.count,
            total_ns: waits.total_ns,
            max_ns: waits.max_ns,
        }
    }
}

impl From<&MapView> for Map {
    fn from(map: &MapView) -> Self {
        let started = map.started_as.iter().map(|(function, count)| Started {
            function: function.clone(),
            count: *count,
        });
        let used = map.places.iter().map(|place| Used {
            what: place.what,
            count: place.count,
            place: Frame::from(&place.frame),
        });
        let guard = map.guard.as_ref().map(|guard| Guard {
            lock: format!("{:#x}", guard.lock),
            lock_kind: guard.kind,
            name: guard.name.clone(),
            confidence: guard.confidence.name(),
            why: guard.why.clone(),
        });
        Self {
            about: Subject::from(&map.about),
            name_measured: map.name_measured,
            kind: map.kind,
            elements: map.size.map(|size| size.0),
            buckets_or_tables: map.size.map(|size| size.1),
            operations: Operations {
                reads: map.ops.reads,
                assigns: map.ops.assigns,
                deletes: map.ops.deletes,
                clears: map.ops.clears,
                iterations: map.ops.iterations,
                steps: map.ops.steps,
                growths: map.ops.growths,
            },
            operations_during_gc: map.during_gc,
            goroutines: map.goroutines,
            started_as: started.collect(),
            used_at: used.collect(),
            guard,
            shards: map.shards,
            waits: map.waits.into(),
            waited_for: map.blame.map(For::from),
            risk: map.risk.map(|(claim, confidence)| Risk {
                claim: claim.name(),
                confidence: confidence.name(),
            }),
        }
    }
}

impl From<&SyncView> for Sync {
    fn from(map: &SyncView) -> Self {
        Self {
            about: Subject::from(&map.about),
            loads: map.ops.loads,
            stores: map.ops.stores,
            deletes: map.ops.deletes,
            ranges: map.ops.ranges,
            ranges_over: map.ranges_over,
            ranges_disturbed: map.ranges_disturbed,
            waits: map.waits.into(),
        }
    }
}

impl From<&LockView> for Lock {
    fn from(lock: &LockView) -> Self {
        let [mutex, writers, readers] = lock.by_side.map(Times::from);
        let (still_waiting, still_waiting_max_ns) = lock.open.unwrap_or((0, 0));
        Self {
            about: Subject::from(&lock.about),
            waits: lock.waits.into(),
            p50_ns: lock.quantiles_ns.map(|it| it.0),
            p99_ns: lock.quantiles_ns.map(|it| it.1),
            mutex,
            writers,
            readers,
            still_waiting,
            still_waiting_max_ns,
            unmeasured: lock.unmeasured,
            paused_ns: lock.paused_ns,
            waits_during_gc: lock.during_gc,
            waiters: lock.waiters.iter().map(Side::from).collect(),
            holders: lock.holders.iter().map(Side::from).collect(),
            guards: lock.maps.iter().map(|map| format!("{map:#x}")).collect(),
            waited_for: lock.blame.map(For::from),
        }
    }
}

impl<'a> Report<'a> {
    fn new(pid: u32, known: &'a Known) -> Self {
        let ways = known.arrangements.iter().map(|one| Way {
            name: &one.name,
            maps_count: one.maps,
            locks_count: one.locks,
            seen_operations: one.ops,
            waits: one.waits.into(),
            wait_ns_per_operation: one.ns_per_op,
        });
        let summed = known.summed_up;
        let limits = known.limits.iter().map(|(name, count, meaning)| Limit {
            name,
            count: *count,
            meaning,
        });
        let findings = known.findings.iter().take(FINDINGS);
        Self {
            kind: "maps_report",
            pid,
            maps: known.maps.iter().map(Map::from).collect(),
            sync_maps: known.sync_maps.iter().map(Sync::from).collect(),
            locks: known.locks.iter().map(Lock::from).collect(),
            arrangements: ways.collect(),
            collections: known.collections.collections.into(),
            pauses: known.collections.pauses.into(),
            no_locks: Others {
                wait_groups: known.no_locks.wait_groups.into(),
                files: known.no_locks.files.into(),
                runtime: known.no_locks.runtime.into(),
                unknown: known.no_locks.unknown.into(),
            },
            summed_up: Sum {
                maps_count: summed.maps,
                seen_operations: summed.ops.all(),
                sync_map_operations: summed.sync_map_ops,
                locks_count: summed.locks,
                waits: summed.waits.into(),
            },
            limits: limits.collect(),
            sends: known.sends.as_ref(),
            all_findings: known.findings.len(),
            findings: findings.map(|it| Conclusion::new(pid, it)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{documented, maps_fixture},
        *,
    };
    use crate::explain::maps::{About, SyncOps};

    const HEADING: &str = "## The lines of `injector maps`: `maps_report`\n";

    fn known() -> Known {
        let map = maps_fixture::map();
        let way = |name: &str| Arrangement {
            name: name.to_owned(),
            maps: 1,
            locks: 1,
            ops: 1_000,
            waits: map.waits,
            ns_per_op: Some(1_200_000.0),
        };
        Known {
            sync_maps: vec![SyncView {
                about: About {
                    what: "sync.Map",
                    type_name: None,
                    ..map.about.clone()
                },
                ops: SyncOps::default(),
                waits: Waits::default(),
                ranges_over: 3,
                ranges_disturbed: 1,
            }],
            arrangements: vec![way("RWMutex + map"), way("sync.Map")],
            maps: vec![map],
            locks: vec![maps_fixture::lock()],
            collections: Collections {
                pauses: Waits {
                    count: 2,
                    total_ns: 90_000,
                    max_ns: 50_000,
                },
                ..Collections::default()
            },
            no_locks: NoLocks::default(),
            summed_up: SummedUp {
                maps: 4,
                ..SummedUp::default()
            },
            sends: Some(Sends {
                injected_ns: 1_000_000_000,
                waited_ns: 3_000_000_000,
                waited_injected_ns: 2_500_000_000,
                waited_sending_ns: 100_000_000,
                waited_pausing_ns: 0,
                waited_no_cpu_ns: 0,
                waited_unexplained_ns: 400_000_000,
                waited_chained_ns: 0,
                forgotten: 0,
                delayed: maps::Group {
                    sends: 20,
                    delay_ns: 1_000_000_000,
                    natural_ns: 1_000_000,
                    waits: 60,
                    waited_ns: 2_600_000_000,
                }
                .into(),
                not_delayed: maps::Group::default().into(),
                would_delay: maps::Group::default().into(),
            }),
            limits: vec![("maps", 4, "Maps that were summed up.")],
            findings: vec![maps_fixture::finding(); 12],
        }
    }

    #[test]
    fn the_end_has_tables_and_sums() {
        let page = page(&known());
        for words in [
            "pauses of the whole program 2 (90us, longest 50us)",
            "not shown one by one: 4 more maps",
            "1.2ms per operation",
            "1s of injected delay became",
            "Sends delayed: 20, which",
            "few sends",
            "maps: 4 (Maps that were summed up.)",
        ] {
            assert!(page.contains(words), "{words} in {page}");
        }
        let long = page.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None);
    }

    #[test]
    fn the_document_has_every_field() {
        let known = known();
        let written = serde_json::to_value(Report::new(1, &known)).unwrap();
        assert_eq!(documented::keys(&written), documented::names(HEADING));
    }
}
