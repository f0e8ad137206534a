//! The tables of `docs/coverage.md`, cell by cell: which system call on which
//! family is seen by which hook, can be made to fail, and can be delayed by which
//! engine.

use std::fs;

use libtest_mimic::Trial;

use super::{each_hook, needs};
use crate::harness::{Hook, Host, Injector, MS, Send, Target};

const TABLE: &str = include_str!("../../../../docs/coverage.md");
const FAMILIES: [&str; 7] = [
    "tcp4",
    "tcp6",
    "udp4",
    "udp6",
    "unix_stream",
    "unix_dgram",
    "unix_seqpacket",
];
/// Sends per cell. Small ones: before 6.5 `sendfile` sends page by page.
const SENDS: usize = 3;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut trials = each_hook(host, "coverage_sees", sees);
    let can_fail = host.can_fail_sends().is_ok();
    trials.push(needs("coverage_sleeps", host.can_sleep(), move || {
        sleeps(if can_fail { "lsm" } else { "tracepoint" });
    }));
    for engine in ["spin", "sleep"] {
        let needed = host.can_fail_sends().and_then(|()| match engine {
            "sleep" => host.can_sleep(),
            _ => Ok(()),
        });
        trials.push(needs(
            &format!("coverage_delays_other_calls[{engine}]"),
            needed,
            move || delays_other_calls(engine),
        ));
    }
    trials.push(needs(
        "coverage_fails_other_calls",
        host.can_fail_sends(),
        fails_other_calls,
    ));
    let refused = match host.can_fail_sends() {
        Ok(()) => Err("BPF LSM works here".to_owned()),
        Err(_) => Ok(()),
    };
    trials.push(needs("other_calls_are_refused", refused, || {
        let ended = Injector::run("--comm nobody --on connect --error ECONNREFUSED");
        assert_ne!(ended.code, Some(0));
        ended.expect_words("BPF LSM");
    }));
    for hook in [Hook::Kprobe, Hook::Fentry] {
        let needed = host.can_fail_sends().and_then(|()| host.has(hook));
        trials.push(needs(
            &format!("coverage_fails[{hook}]"),
            needed,
            move || fails(hook),
        ));
    }
    trials
}

/// A cell of the table that holds for this kernel.
struct Cell {
    call: String,
    family: &'static str,
    word: String,
}

fn cells(hook: &str) -> Vec<Cell> {
    let mut cells = Vec::new();
    for line in TABLE.lines() {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        // The first and the last are empty.
        let [_, call, hooks, kernel, words @ .., _] = &columns[..] else {
            continue;
        };
        if words.len() != FAMILIES.len() || !hooks.split(", ").any(|word| word == hook) {
            continue;
        }
        if !holds(kernel) {
            continue;
        }
        for (family, word) in FAMILIES.into_iter().zip(words) {
            cells.push(Cell {
                call: (*call).to_owned(),
                family,
                word: (*word).to_owned(),
            });
        }
    }
    assert_eq!(cells.len(), 10 * FAMILIES.len(), "cells for {hook}");
    cells
}

/// The system calls of `--on`, by operation.
const OPERATIONS: [(&str, &[&str]); 3] = [
    ("connect", &["connect"]),
    ("accept", &["accept", "accept4"]),
    (
        "recv",
        &["read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg"],
    ),
];

/// The cells for an operation of `--on`.
fn other_cells(syscalls: &[&str]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for line in TABLE.lines() {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, call, "any", words @ .., _] = &columns[..] else {
            continue;
        };
        if words.len() != FAMILIES.len() || !syscalls.contains(call) {
            continue;
        }
        for (family, word) in FAMILIES.into_iter().zip(words) {
            cells.push(Cell {
                call: (*call).to_owned(),
                family,
                word: (*word).to_owned(),
            });
        }
    }
    assert_eq!(cells.len(), syscalls.len() * FAMILIES.len(), "{syscalls:?}");
    cells.retain(|cell| cell.word != "-");
    cells
}

/// Whether this kernel is `any`, `< 6.5` or `>= 6.5`.
fn holds(condition: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let own = version(&release);
    match condition.split_once(' ') {
        None => condition == "any",
        Some(("<", bound)) => own < version(bound),
        Some((">=", bound)) => own >= version(bound),
        Some(_) => panic!("no condition: {condition}"),
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().expect("a version"));
    (
        numbers.next().expect("a version"),
        numbers.next().expect("a version"),
    )
}

/// Runs the target of every cell under one injector; the records of each.
fn run(
    program: &str,
    size: &str,
    cells: &[Cell],
    flags: &str,
) -> Vec<(serde_json::Value, Vec<Send>)> {
    let targets: Vec<_> = cells
        .iter()
        .map(|cell| {
            Target::start(
                program,
                &format!("{} {} {SENDS} {size}", cell.family, cell.call),
            )
        })
        .collect();
    let injector = Injector::start(&format!("--comm {program} --allow-broad {flags}"));
    let results: Vec<_> = targets
        .into_iter()
        .map(|target| (target.pid, target.run()))
        .collect();
    let ended = injector.stop();
    ended.expect_code(0);
    assert_eq!(ended.counter("records_dropped"), 0);
    results
        .into_iter()
        .map(|(pid, result)| {
            let records = ended.sends.iter().filter(|send| send.pid == pid);
            (result, records.cloned().collect())
        })
        .collect()
}

fn sees(hook: Hook) {
    let cells = cells(&hook.to_string());
    let mut wrong = Vec::new();
    let runs = run("sends", "100", &cells, &format!("--hook {hook}"));
    for (cell, (result, records)) in cells.iter().zip(runs) {
        assert_eq!(result["ok"], SENDS, "{result}");
        let timed = records
            .iter()
            .filter(|send| send.natural_ns.is_some())
            .count();
        // Inline io_uring tries a full socket twice.
        let enough = |count| count == SENDS || (cell.call == "io_uring" && count > SENDS);
        let right = match cell.word.as_str() {
            "yes" => enough(timed) && timed == records.len(),
            "end only" => enough(records.len()) && timed == 0,
            "no" => records.is_empty(),
            word => panic!("the table says {word}"),
        };
        if !right {
            wrong.push(format!(
                "{} on {}: {} said, {} records, {timed} with times",
                cell.call,
                cell.family,
                cell.word,
                records.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn fails(hook: Hook) {
    let cells = cells("lsm");
    let mut wrong = Vec::new();
    let flags = format!("--hook {hook} --error ENOBUFS");
    for (cell, (result, records)) in cells.iter().zip(run("sends", "100", &cells, &flags)) {
        let failed = records.iter().filter(|send| send.failed).count();
        let felt = result["errnos"]["ENOBUFS"].as_u64().unwrap_or(0);
        let right = match cell.word.as_str() {
            "yes" => failed > 0 && result["ok"] == 0,
            "no" => failed == 0 && felt == 0 && result["ok"] == SENDS,
            word => panic!("the table says {word}"),
        };
        if !right {
            wrong.push(format!(
                "{} on {}: {} said, {failed} failed, {result}",
                cell.call, cell.family, cell.word
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where the delay reached its end, by the record.
fn is_delayed(send: &Send) -> bool {
    send.is_delivered() && !send.shortened && send.delivered_ns >= send.asked_ns
}

/// Every send that a hook sees sleeps, as the rows of that hook say.
fn sleeps(rows: &str) {
    let cells = cells(rows);
    let mut wrong = Vec::new();
    let flags = "--engine sleep --delay 5ms";
    for (cell, (result, records)) in cells.iter().zip(run("sends", "100", &cells, flags)) {
        assert_eq!(result["ok"], SENDS, "{result}");
        let delayed = records.iter().filter(|send| is_delayed(send)).count();
        let right = match cell.word.as_str() {
            "yes" => delayed >= SENDS,
            _ => delayed == 0,
        };
        if !right {
            wrong.push(format!(
                "{} on {}: {} said, {delayed} delayed, {records:?}",
                cell.call, cell.family, cell.word
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn delays_other_calls(engine: &str) {
    const DELAY_MS: u64 = 8;
    let mut wrong = Vec::new();
    for (operation, calls) in OPERATIONS {
        let cells = other_cells(calls);
        let flags = format!("--on {operation} --engine {engine} --delay {DELAY_MS}ms");
        for (cell, (result, records)) in cells.iter().zip(run("sockets", "", &cells, &flags)) {
            let delayed = records
                .iter()
                .filter(|send| is_delayed(send) && send.place.as_deref() == Some(operation))
                .count();
            let times = result["times_ns"].as_array().expect("times");
            let felt = times
                .iter()
                .all(|time| time.as_u64() >= Some(DELAY_MS * MS));
            if delayed != SENDS || !felt || result["ok"] != SENDS {
                wrong.push(format!(
                    "{} on {}: {delayed} delayed, {result}",
                    cell.call, cell.family
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn fails_other_calls() {
    let mut wrong = Vec::new();
    for (operation, calls) in OPERATIONS {
        let cells = other_cells(calls);
        let flags = format!("--on {operation} --error ECONNREFUSED");
        for (cell, (result, records)) in cells.iter().zip(run("sockets", "", &cells, &flags)) {
            let failed = records
                .iter()
                .filter(|send| send.failed && send.place.as_deref() == Some(operation))
                .count();
            if failed != SENDS || result["errnos"]["ECONNREFUSED"] != SENDS {
                wrong.push(format!(
                    "{} on {}: {failed} failed, {result}",
                    cell.call, cell.family
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
