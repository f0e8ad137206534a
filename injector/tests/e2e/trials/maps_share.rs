//! What `injector maps` concludes of Go programs that count by themselves what
//! happens between their goroutines.

use std::process::Command;

use libtest_mimic::Trial;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde_json::Value;

use super::{each_toolchain, needs};
use crate::harness::{
    Ended, Host, Injector, Target,
    go::{self, Toolchain},
    programs::{self, Scratch},
};

/// What two clocks that look at the same waits may differ by: the one of the
/// program also sees how it is scheduled.
const ALIKE: std::ops::RangeInclusive<f64> = 0.7..=1.3;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut trials = each_toolchain(
        host,
        "maps_share",
        [
            ("maps_says_who_waits_for_whom", slow),
            ("maps_accuses_no_innocent", innocents),
            ("maps_tells_shards_apart", shards),
            ("maps_counts_what_a_range_may_miss", ranges),
            ("maps_sees_risks_before_the_crash", unlocked),
            ("maps_sees_growth_in_an_own_iteration", own),
            ("maps_sees_writes_in_a_foreign_iteration", foreign),
            ("maps_sees_collections", collections),
            ("maps_blames_the_delayed_send", blamed),
            ("maps_sees_who_has_no_cpu", crowded),
            ("maps_recording_says_the_same", recorded),
        ],
    );
    // But for what the scheduler tells, and how.
    if let (true, Some(toolchain)) = (host.is_slow, go::chosen().pop()) {
        trials.push(needs(
            "maps_sees_who_has_no_cpu",
            host.has_uprobe_multi(),
            move || crowded(&toolchain),
        ));
    }
    trials
}

/// Runs a mode of the target with everything traced: the conclusions, fatal
/// errors, and what the target counted if it came to its end.
fn run(toolchain: &Toolchain, mode: &str) -> (Value, usize, Option<Value>) {
    let mut target = Target::start(&toolchain.program("share"), mode);
    let injector = Injector::start_with(&format!(
        "maps --pid {} --budget none --output json",
        target.pid
    ));
    target.go();
    let truth = serde_json::from_str(&target.line()).ok();
    let ended = injector.finish();
    ended.expect_code(0);
    let (summary, fatals) = ended.maps.split_last().expect("a summary");
    assert_eq!(summary["lost"], Value::Array(Vec::new()), "{summary}");
    (only_report(&ended).clone(), fatals.len(), truth)
}

#[track_caller]
fn only_report(ended: &Ended) -> &Value {
    let [report] = &ended.conclusions[..] else {
        panic!("not one report: {:?}", ended.conclusions);
    };
    report
}

/// The same of a mode that has no accident.
fn peaceful(toolchain: &Toolchain, mode: &str) -> (Value, Value) {
    let (report, fatals, truth) = run(toolchain, mode);
    assert_eq!(fatals, 0, "{report}");
    (report, truth.expect("what the target counted"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn findings<'a>(report: &'a Value, claim: &str) -> Vec<&'a Value> {
    let all = list(report, "findings").iter();
    all.filter(|finding| finding["claim"] == claim).collect()
}

fn number(value: &Value, name: &str) -> u64 {
    let number = value[name].as_u64();
    number.unwrap_or_else(|| panic!("{name} in {value}"))
}

fn measured(finding: &Value, name: &str) -> u64 {
    let figures = list(finding, "measured");
    let figure = figures.iter().find(|figure| figure["figure"] == name);
    figure.map_or(0, |figure| number(figure, "value"))
}

/// Whether a function is on the stack of a party.
fn through(party: &Value, function: &str) -> bool {
    let stack = list(party, "stack");
    stack.iter().any(|frame| frame["function"] == function)
}

#[track_caller]
fn alike(seen: u64, counted: u64) {
    let ratio = seen as f64 / counted as f64;
    assert!(ALIKE.contains(&ratio), "seen {seen}, counted {counted}");
}

/// Nothing but waiting, and no risk of which it is sure.
#[track_caller]
fn no_accusation(report: &Value) {
    for finding in list(report, "findings") {
        let accused = finding["claim"] != "contention" && finding["confidence"] == "high";
        assert!(!accused, "{finding}");
    }
}

fn slow(toolchain: &Toolchain) {
    let (report, truth) = peaceful(toolchain, "slow");
    no_accusation(&report);
    let [lock, ..] = list(&report, "locks") else {
        panic!("no lock: {report}");
    };
    assert_eq!(lock["about"]["what"], "RWMutex", "{lock}");
    alike(
        number(&lock["waits"], "total_ns"),
        number(&truth, "waited_ns"),
    );
    alike(
        number(&lock["readers"], "total_ns"),
        number(&truth, "waited_ns"),
    );
    let holder = &list(lock, "holders")[0];
    assert!(through(holder, "main.(*cache).refresh"), "{holder}");
    assert!(number(holder, "count") <= number(&truth, "holds"));
    let waiter = &list(lock, "waiters")[0];
    assert!(through(waiter, "main.(*cache).get"), "{waiter}");
    let [finding] = findings(&report, "contention")[..] else {
        panic!("not one contended lock: {report}");
    };
    let remedy = finding["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("slow"), "{finding}");
    // The lock's writer is seen to lock, to write and to unlock.
    let maps = list(&report, "maps").iter();
    let guarded: Vec<_> = maps
        .filter(|map| map["guard"]["lock"] == lock["about"]["address"])
        .collect();
    assert_eq!(guarded.len(), 1, "{report}");
    assert_eq!(guarded[0]["guard"]["confidence"], "high", "{report}");
}

fn innocents(toolchain: &Toolchain) {
    for mode in ["mutex", "handover", "slow"] {
        let (report, _) = peaceful(toolchain, mode);
        no_accusation(&report);
        assert!(findings(&report, "overlap").is_empty(), "{report}");
    }
}

fn shards(toolchain: &Toolchain) {
    let (report, truth) = peaceful(toolchain, "shards");
    no_accusation(&report);
    let ways = list(&report, "arrangements").iter();
    let ways: Vec<_> = ways
        .filter(|way| way["name"] == "shards of RWMutex + map")
        .collect();
    let [shards] = ways[..] else {
        panic!("no shards: {report}");
    };
    let counted = number(&truth, "shards");
    assert_eq!(number(shards, "maps_count"), counted, "{report}");
    assert_eq!(number(shards, "locks_count"), counted, "{report}");
}

fn ranges(toolchain: &Toolchain) {
    let (report, truth) = peaceful(toolchain, "syncmap");
    let [finding] = findings(&report, "range_missed")[..] else {
        panic!("not one sync.Map: {report}");
    };
    assert_eq!(
        measured(finding, "ranges"),
        number(&truth, "ranges"),
        "{finding}"
    );
    alike(
        measured(finding, "ranges_disturbed"),
        number(&truth, "disturbed"),
    );
    alike(measured(finding, "stores"), number(&truth, "stores"));
    let parties = list(finding, "parties").iter();
    let changes: Vec<_> = parties.filter(|it| it["role"] == "changes").collect();
    assert!(
        changes.iter().all(|it| through(it, "main.store")),
        "{finding}"
    );
    // The maps inside of a sync.Map are no maps of the program.
    for claim in ["overlap", "unordered", "write_during_iteration"] {
        assert!(findings(&report, claim).is_empty(), "{report}");
    }
}

fn unlocked(toolchain: &Toolchain) {
    let (report, fatals, truth) = run(toolchain, "unlocked");
    let found = [findings(&report, "unordered"), findings(&report, "overlap")].concat();
    assert!(fatals > 0 || found.len() == 1, "{report}");
    assert!(fatals > 0 || truth.is_some());
    for finding in found {
        let parties = list(finding, "parties");
        let by = |function| parties.iter().any(|it| through(it, function));
        assert!(by("main.scribble") && by("main.peek"), "{finding}");
        let proven = finding["claim"] == "overlap";
        assert_eq!(proven, finding["confidence"] == "high", "{finding}");
    }
}

fn own(toolchain: &Toolchain) {
    let (report, truth) = peaceful(toolchain, "own");
    let found = findings(&report, "change_during_own_iteration");
    assert!(!found.is_empty(), "{report}");
    let (sure, unsure): (Vec<&Value>, Vec<&Value>) = found
        .into_iter()
        .partition(|finding| finding["confidence"] == "high");
    assert!(!sure.is_empty(), "{report}");
    // A map on the stack moves with it when that grows; then it is another one.
    assert!(unsure.len() <= 1, "{report}");
    for finding in sure.iter().chain(&unsure) {
        assert!(
            through(&list(finding, "parties")[1], "main.sprout"),
            "{finding}"
        );
    }
    // A map for each iteration; not all need be kept apart.
    assert!(number(&report, "all_findings") <= number(&truth, "iterations"));
    assert!(findings(&report, "unordered").is_empty(), "{report}");
}

fn foreign(toolchain: &Toolchain) {
    let (report, truth) = peaceful(toolchain, "foreign");
    let [finding] = findings(&report, "write_during_iteration")[..] else {
        panic!("not one map: {report}");
    };
    // What orders them is not seen, so it is not sure.
    assert_eq!(finding["confidence"], "medium", "{finding}");
    // An iteration that a window ends in is not followed beyond.
    for (seen, counted) in [("assigns", "changes"), ("iterations", "iterations")] {
        let (seen, counted) = (measured(finding, seen), number(&truth, counted));
        assert!(seen <= counted, "{finding}");
        alike(seen, counted);
    }
    let parties = list(finding, "parties");
    assert!(through(&parties[0], "main.visit"), "{finding}");
    assert!(through(&parties[1], "main.change"), "{finding}");
}

fn collections(toolchain: &Toolchain) {
    let (report, truth) = peaceful(toolchain, "gc");
    no_accusation(&report);
    alike(
        number(&report["collections"], "count"),
        number(&truth, "collections"),
    );
    // Each has two pauses.
    let pauses = number(&report["pauses"], "count");
    assert!(
        pauses >= number(&report["collections"], "count"),
        "{report}"
    );
}

/// The join: delays that are injected into the sends of one goroutine are what
/// others waited for.
fn blamed(toolchain: &Toolchain) {
    let mut target = Target::start(&toolchain.program("share"), "sender 3");
    let injector = Injector::start(&format!(
        "--pid {} --delay 20ms --probability 40% --seed 7 --maps --budget none",
        target.pid
    ));
    target.go();
    let truth: Value = serde_json::from_str(&target.line()).expect("what the target counted");
    let ended = injector.finish();
    ended.expect_code(0);
    let delivered = ended.delivered().count() as u64;
    assert!(delivered >= 20, "{delivered} delays");
    let report = only_report(&ended);
    let sends = &report["sends"];
    let (waited, injected) = (
        number(sends, "waited_ns"),
        number(sends, "waited_injected_ns"),
    );
    alike(waited, number(&truth, "waited_ns"));
    assert!(injected as f64 >= 0.7 * waited as f64, "{report}");
    let parts = injected
        + number(sends, "waited_sending_ns")
        + number(sends, "waited_pausing_ns")
        + number(sends, "waited_no_cpu_ns")
        + number(sends, "waited_unexplained_ns");
    assert_eq!(parts, waited, "{sends}");
    // Nobody waited for the goroutine that sends without a lock, and three waited
    // for the other.
    let delays: u64 = ended.delivered().filter_map(|send| send.delivered_ns).sum();
    assert_eq!(number(sends, "injected_ns"), delays, "{sends}");
    let [finding] = findings(report, "contention")[..] else {
        panic!("not one contended lock: {report}");
    };
    assert_eq!(measured(finding, "injected_ns"), injected, "{finding}");
    let remedy = finding["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("do not send under the lock"), "{finding}");
    let goroutines: std::collections::BTreeSet<_> = ended
        .sends
        .iter()
        .filter_map(|send| send.goroutine)
        .collect();
    assert_eq!(goroutines.len(), 2, "{goroutines:?}");
}

/// A holder that shares its CPU, and one that sleeps.
fn crowded(toolchain: &Toolchain) {
    let waits = |mode: &str, cpu: Option<usize>| {
        let all = sched_getaffinity(Pid::from_raw(0)).expect("the CPUs of this thread");
        if let Some(cpu) = cpu {
            let mut one = CpuSet::new();
            one.set(cpu).expect("a CPU");
            sched_setaffinity(Pid::from_raw(0), &one).expect("one CPU");
        }
        // It may use the CPUs that this thread may.
        let mut target = Target::start(&toolchain.program("share"), mode);
        sched_setaffinity(Pid::from_raw(0), &all).expect("all CPUs");
        let injector = Injector::start(&format!(
            "--pid {} --shadow --delay 1ms --maps --budget none",
            target.pid
        ));
        target.go();
        let truth: Value = serde_json::from_str(&target.line()).expect("what the target counted");
        let ended = injector.finish();
        ended.expect_code(0);
        (only_report(&ended).clone(), truth)
    };
    let first = sched_getaffinity(Pid::from_raw(0)).expect("the CPUs of this thread");
    let first = (0..CpuSet::count()).find(|cpu| first.is_set(*cpu).is_ok_and(|it| it));
    let (report, truth) = waits("crowded 3", first);
    let sends = &report["sends"];
    let [held, no_cpu, waited] = ["held_ns", "no_cpu_ns", "waited_ns"].map(|it| number(&truth, it));
    assert!(no_cpu > held / 5, "it was not crowded: {truth}");
    // Of the waits, at most all of the time that the holder had none, and at least
    // what it cannot have computed in.
    let seen = number(sends, "waited_no_cpu_ns") as f64;
    assert!(seen <= 1.1 * no_cpu as f64, "{sends}, {truth}");
    let computed = held - no_cpu;
    assert!(
        seen >= 0.9 * waited.saturating_sub(computed) as f64,
        "{sends}, {truth}"
    );
    let [finding] = findings(&report, "contention")[..] else {
        panic!("not one contended lock: {report}");
    };
    assert_eq!(
        measured(finding, "no_cpu_ns"),
        number(sends, "waited_no_cpu_ns"),
        "{finding}"
    );

    let (report, _) = waits("slow 2", None);
    let sends = &report["sends"];
    let (no_cpu, waited) = (
        number(sends, "waited_no_cpu_ns"),
        number(sends, "waited_ns"),
    );
    assert!(no_cpu < waited / 10, "{sends}");
}

/// What is concluded of a recording is what the run concluded.
fn recorded(toolchain: &Toolchain) {
    let scratch = Scratch::new("maps-recording");
    for (run, flags, mode) in [
        ("", "--maps --delay 20ms --probability 40%", "sender 2"),
        ("maps", "", "unlocked 2"),
    ] {
        let file = scratch.path(&format!("run-{run}")).display().to_string();
        let mut target = Target::start(&toolchain.program("share"), mode);
        let injector = Injector::start_with(&format!(
            "{run} --pid {} {flags} --budget none --record {file} --output json",
            target.pid
        ));
        target.go();
        target.line();
        let ended = injector.finish();
        ended.expect_code(0);
        ended.expect_words("recorded in");
        let again = Injector::run(&format!("report {file} --output json"));
        again.expect_code(0);
        assert_eq!(again.stderr, "");
        assert_eq!(again.conclusions, ended.conclusions);
        assert_eq!(again.maps, ended.maps);

        let findings = list(&ended.conclusions[0], "findings");
        let page = text(&["report", &file]);
        assert!(page.contains("finding"), "{page}");
        for (index, finding) in findings.iter().enumerate() {
            let pointer = format!("injector report {file} --finding {}", index + 1);
            assert!(page.contains(&pointer), "{pointer} in {page}");
            let evidence = text(&["report", &file, "--finding", &(index + 1).to_string()]);
            for party in list(finding, "parties") {
                for frame in list(party, "stack") {
                    let function = frame["function"].as_str().expect("a name");
                    assert!(evidence.contains(function), "{function} in {evidence}");
                }
            }
        }
        let none = Injector::run(&format!("report {file} --finding 0"));
        none.expect_code(2);
        none.expect_words("--finding 0");
    }
}

fn text(arguments: &[&str]) -> String {
    let output = Command::new(programs::INJECTOR).args(arguments).output();
    let output = output.expect("injector runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}
