//! `injector maps` on Go programs that tell the truth about themselves.

use std::{env, fs, time::Duration};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{anywhere, needs, on_fast_hosts};
use crate::harness::{
    Bpf, Host, Injector, Target, eventually,
    go::{self, Toolchain},
    programs::Scratch,
};

/// Modes of the target, the accident that each leads to, and who can find it.
const ACCIDENTS: [(&str, &str, &[&str]); 3] = [
    ("writes", "concurrent_writes", &["assign", "delete"]),
    ("read", "read_and_write", &["access"]),
    ("iterate", "iteration_and_write", &["iterate"]),
];
/// Go's own report would drown what a failed trial says.
const QUIET: [(&str, &str); 1] = [("GOTRACEBACK", "none")];
/// Everything is traced.
const SEEN: &str = "";
/// Only writes are, so that the operation of who finds them is not seen.
const UNSEEN: &str = " --only write";
/// Accidents of each kind, unless `INJECTOR_E2E_FATALS` says how many.
const RUNS: u32 = 3;
/// Runs in which it may come to no accident: in an emulated machine, two
/// goroutines can miss each other for long.
const PEACEFUL: u32 = 5;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let runs = env::var("INJECTOR_E2E_FATALS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(host.scale(RUNS, 1));
    let mut toolchains = go::chosen();
    if host.is_slow && toolchains.len() > 1 {
        println!("skip maps with all but one Go: slow in an emulated machine");
        toolchains.drain(..toolchains.len() - 1);
    }
    let mut trials = vec![anywhere("maps_refuses_what_is_no_go", refusals)];
    if toolchains.is_empty() {
        println!("skip maps: no Go toolchain is in the cache");
    }
    for toolchain in toolchains {
        let version = toolchain.version.clone();
        let mut add = |name: &str, run: Box<dyn FnOnce() + Send>| {
            trials.push(needs(
                &format!("{name}[{version}]"),
                host.has_uprobe_multi(),
                run,
            ));
        };
        let kinds = host.scale(ACCIDENTS.len(), 1);
        for accident in ACCIDENTS.into_iter().take(kinds) {
            let toolchain = toolchain.clone();
            add(
                &format!("maps_names_both_parties[{}]", accident.0),
                Box::new(move || accidents(runs, || parties(&toolchain, accident, SEEN))),
            );
        }
        // Goroutines of an emulated machine hardly ever meet in a read.
        for accident in ACCIDENTS.into_iter().skip(1).take(host.scale(kinds, 0)) {
            let toolchain = toolchain.clone();
            add(
                &format!("maps_names_who_was_not_seen[{}]", accident.0),
                Box::new(move || accidents(runs, || parties(&toolchain, accident, UNSEEN))),
            );
        }
        let with = toolchain.clone();
        add(
            "maps_reports_no_innocent",
            Box::new(move || innocent(&with)),
        );
        let with = toolchain.clone();
        add("maps_is_killed_unharmed", Box::new(move || killed(&with)));
        let with = toolchain.clone();
        trials.push(on_fast_hosts(
            host,
            &format!("maps_names_parties_within_the_budget[{version}]"),
            move || within_budget(runs, &with),
        ));
        for (name, run) in [
            ("maps_keeps_the_budget", governed as fn(&Toolchain)),
            ("maps_sees_overlaps_and_makes_none_up", overlapping),
        ] {
            let with = toolchain.clone();
            trials.push(on_fast_hosts(
                host,
                &format!("{name}[{version}]"),
                move || run(&with),
            ));
        }
        trials.push(on_fast_hosts(
            host,
            &format!("maps_writes_fatal_files[{version}]"),
            move || fatal_file(&toolchain),
        ));
    }
    trials
}

/// A waiting target, and what it says of itself.
fn start(toolchain: &Toolchain, mode: &str) -> (Target, Value) {
    let mut target = Target::start_with(&toolchain.program("collide"), mode, &QUIET);
    let truth = target.line();
    let truth = serde_json::from_str(&truth).expect("the truth as JSON");
    (target, truth)
}

/// Until the runtime has ended it.
fn await_end(target: &mut Target) {
    assert!(eventually(Duration::from_mins(1), || !target.is_running()));
}

fn role<'a>(truth: &'a Value, goroutine: &Value) -> &'a str {
    let pair = truth["pair"].as_array().expect("a pair");
    let party = pair.iter().find(|party| party["goroutine"] == *goroutine);
    party
        .and_then(|party| party["role"].as_str())
        .unwrap_or_else(|| panic!("goroutine {goroutine} is none of {truth}"))
}

/// Functions of the target that carry a role out, and the operations that it
/// consists of.
fn duties(role: &str) -> (&'static str, &'static [&'static str]) {
    match role {
        "assign" => ("main.assign", &["assign"]),
        "delete" => ("main.remove", &["assign", "delete"]),
        "access" => ("main.access", &["access"]),
        "iterate" => ("main.iterate", &["iterate_start", "iterate_next"]),
        _ => panic!("no such role: {role}"),
    }
}

#[track_caller]
fn check_side(side: &Value, role: &str) {
    let (function, operations) = duties(role);
    let stack = side["stack"].as_array().expect("a stack");
    let names: Vec<&str> = stack
        .iter()
        .filter_map(|frame| frame["function"].as_str())
        .collect();
    assert!(names.contains(&function), "{function} is not in {names:?}");
    assert!(names.contains(&"main.collide"), "{names:?}");
    let operation = side["operation"].as_str().expect("an operation");
    assert!(operations.contains(&operation), "{role}: {operation}");
}

/// So many runs that come to an accident, in at least one of which both parties are
/// named.
fn accidents(runs: u32, run: impl Fn() -> Option<bool>) {
    let tries = runs + PEACEFUL;
    let seen: Vec<bool> = (0..tries)
        .filter_map(|_| run())
        .take(runs as usize)
        .collect();
    assert_eq!(
        seen.len(),
        runs as usize,
        "too few accidents in {tries} runs"
    );
    assert!(seen.contains(&true), "nobody was named in {runs} accidents");
}

/// One run; whether both were named, if it came to an accident. With everything
/// traced, they must be. `flags` are more of `maps`.
fn parties(
    toolchain: &Toolchain,
    (mode, accident, finders): (&str, &str, &[&str]),
    flags: &str,
) -> Option<bool> {
    let (mut target, truth) = start(toolchain, mode);
    let pid = target.pid;
    let injector = Injector::start_with(&format!(
        "maps --pid {pid} --budget none --output json{flags}"
    ));
    target.go();
    await_end(&mut target);
    let ended = injector.finish();
    ended.expect_code(0);
    let (summary, fatals) = ended.maps.split_last().expect("a summary");
    assert_eq!(summary["type"], "maps_summary");
    assert_eq!(summary["lost"], Value::Array(Vec::new()), "{summary}");
    if target.line().contains("\"ok\"") {
        assert!(fatals.is_empty(), "{fatals:?}");
        return None;
    }
    let mut named = true;
    // Both can find each other.
    assert!((1..=2).contains(&fatals.len()), "{fatals:?}");
    for fatal in fatals {
        assert_eq!(fatal["accident"], accident, "{fatal}");
        let (victim, other) = (&fatal["victim"], &fatal["other"]);
        let finder = role(&truth, &victim["goroutine"]);
        assert!(finders.contains(&finder), "{finder}: {fatal}");
        if flags == UNSEEN && other["goroutine"].is_null() {
            // Writes that are long ago are no candidates, and it may have had no CPU.
            println!("the other party was not named: {other}");
            named = false;
            continue;
        }
        let second = role(&truth, &other["goroutine"]);
        assert_ne!(victim["goroutine"], other["goroutine"], "{fatal}");
        check_side(victim, finder);
        check_side(other, second);
    }
    Some(named)
}

/// With the budget that is usual, on a program that does 20,000 operations a second
/// and comes to its accident when the probes have found their measure: never a wrong
/// name, and hardly ever none.
fn within_budget(runs: u32, toolchain: &Toolchain) {
    let (mut named, mut all) = (0, 0);
    for (mode, accident, _) in ACCIDENTS.iter().cycle().take(runs as usize) {
        let (mut target, truth) = start(toolchain, &format!("{mode} 50 calm"));
        let injector = Injector::start_with(&format!("maps --pid {} --output json", target.pid));
        target.go();
        await_end(&mut target);
        let ended = injector.finish();
        ended.expect_code(0);
        let (summary, fatals) = ended.maps.split_last().expect("a summary");
        if target.line().contains("\"ok\"") {
            println!("no accident in time");
            assert!(fatals.is_empty(), "{fatals:?}");
            continue;
        }
        assert!(!fatals.is_empty(), "{summary}");
        for fatal in fatals {
            assert_eq!(fatal["accident"], *accident, "{fatal}");
            all += 1;
            if !fatal["other"]["goroutine"].is_u64() {
                println!("nobody was named: {fatal}");
                continue;
            }
            named += 1;
            // Fails for one that is none of the two.
            role(&truth, &fatal["victim"]["goroutine"]);
            let second = role(&truth, &fatal["other"]["goroutine"]);
            assert_ne!(
                fatal["victim"]["goroutine"], fatal["other"]["goroutine"],
                "{fatal}"
            );
            let stack = fatal["other"]["stack"].as_array().expect("a stack");
            let function = duties(second).0;
            assert!(
                stack.iter().any(|frame| frame["function"] == function),
                "{fatal}"
            );
        }
    }
    println!("both named in {named} of {all}");
    assert!(all > 0, "no accident in {runs} runs");
    assert!(f64::from(named) >= 0.9 * f64::from(all), "{named} of {all}");
}

fn innocent(toolchain: &Toolchain) {
    let (mut target, _) = start(toolchain, "locked");
    let injector = Injector::start_with(&format!(
        "maps --pid {} --budget none --output json",
        target.pid
    ));
    target.go();
    let seen = target.finish();
    let ended = injector.finish();
    ended.expect_code(0);
    let [summary] = &ended.maps[..] else {
        panic!("{:?}", ended.maps);
    };
    assert!(seen["ok"].as_u64().is_some_and(|count| count > 0), "{seen}");
    // Every operation of the two was seen, beside those of the others.
    let hits = |name: &str| {
        let operations = summary["operations"].as_array().expect("operations");
        let one = operations.iter().find(|one| one["operation"] == name);
        one.and_then(|one| one["hits"].as_u64()).unwrap_or(0)
    };
    let counted = hits("access") + hits("assign");
    assert!(
        counted >= seen["ok"].as_u64().unwrap_or(u64::MAX),
        "{summary}"
    );
}

fn killed(toolchain: &Toolchain) {
    let (mut target, _) = start(toolchain, "locked");
    let before = Bpf::now();
    // A window that stays open.
    let injector = Injector::start_with(&format!("maps --pid {} --budget none", target.pid));
    target.go();
    std::thread::sleep(Duration::from_millis(300));
    let probes = Bpf::since(&before);
    assert!(probes.is_attached());
    injector.signal(Signal::SIGKILL);
    let ended = injector.finish();
    assert_eq!(ended.code, None);
    assert!(eventually(Duration::from_secs(20), || probes.is_gone()));
    let seen = target.finish();
    assert!(seen["ok"].as_u64().is_some_and(|count| count > 0), "{seen}");
}

/// A program that does nothing else than map operations under a lock.
fn governed(toolchain: &Toolchain) {
    let (mut target, _) = start(toolchain, "locked 10");
    let injector = Injector::start_with(&format!("maps --pid {} --output json", target.pid));
    target.go();
    let seen = target.finish();
    let ended = injector.finish();
    ended.expect_code(0);
    let summary = ended.maps.last().expect("a summary");
    assert!(seen["ok"].as_u64().is_some_and(|count| count > 0), "{seen}");
    let number = |name: &str| summary[name].as_f64().expect(name);
    // Two seconds of budget can be spent at once, and what hits while probes are
    // being taken away: on two CPUs, for some 50 ms each of them, once per debt.
    let limit = 0.03 * (number("elapsed_ns") + 2e9) + 300e6;
    assert!(number("cost_ns") <= limit, "over {limit}: {summary}");
    assert!(number("windows") >= 1., "{summary}");
    let share = |name: &str| {
        let seen = summary["seen"].as_array().expect("shares");
        let one = seen.iter().find(|one| one["operation"] == name);
        one.and_then(|one| one["share"].as_f64()).expect(name)
    };
    for hot in ["assign", "access"] {
        assert!(share(hot) > 0. && share(hot) < 0.5, "{hot}: {summary}");
    }
    // What is rare goes on being seen.
    assert!(share("gc_start") > 0.5, "{summary}");
}

/// Two goroutines that lock are never seen in one map at once, and two that do
/// not lock are, before the runtime notices.
fn overlapping(toolchain: &Toolchain) {
    let overlaps = |mode: &str| {
        let (mut target, _) = start(toolchain, mode);
        let injector = Injector::start_with(&format!(
            "maps --pid {} --budget none --output json",
            target.pid
        ));
        target.go();
        await_end(&mut target);
        let ended = injector.finish();
        ended.expect_code(0);
        let summary = ended.maps.last().expect("a summary").clone();
        let count = |name: &str| summary[name].as_u64().expect(name);
        (count("overlaps"), count("hits"))
    };
    let (none, hits) = overlaps("locked 10");
    assert_eq!(none, 0, "of {hits} hits");
    assert!(hits > 100_000, "only {hits} hits");
    let seen = (0..PEACEFUL).any(|_| overlaps("writes").0 > 0);
    assert!(seen, "no overlap in {PEACEFUL} runs");
}

fn fatal_file(toolchain: &Toolchain) {
    let scratch = Scratch::new("fatal-files");
    let directory = scratch.path("new");
    let (mut target, _) = start(toolchain, "read");
    let pid = target.pid;
    let injector = Injector::start_with(&format!(
        "maps --pid {pid} --budget none --output json --fatal-dir {}",
        directory.display()
    ));
    target.go();
    await_end(&mut target);
    let ended = injector.finish();
    ended.expect_code(0);
    let files: Vec<_> = fs::read_dir(&directory)
        .expect("the directory for fatal errors")
        .map(|entry| entry.expect("a file").file_name())
        .collect();
    assert_eq!(files, [format!("fatal-{pid}-1.json").as_str()]);
    let text = fs::read_to_string(directory.join(&files[0])).expect("the file");
    let written: Value = serde_json::from_str(&text).expect("an object as documented");
    assert_eq!(written, ended.maps[0]);
}

fn refusals() {
    let sleeper = Target::start("sleeper", "100");
    let ended = Injector::run(&format!("maps --pid {}", sleeper.pid));
    ended.expect_code(if ended.stderr.contains("too old") {
        3
    } else {
        2
    });
    if ended.code == Some(2) {
        ended.expect_words("is no Go program");
    }
    let ended = Injector::run("maps --pid 4194304");
    assert_ne!(ended.code, Some(0));
}
