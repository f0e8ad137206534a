//! Delays that were asked for, and delays that came: the spin engine, the tools
//! that can do something like it, and what this machine can do at best.

use std::{
    hint, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Bench,
    attached::{Attached, Keep},
    others::{self, Bpftrace},
    program::Program,
    report::{Goal, Section, Verdict, time},
    statistics::Times,
};
use crate::setup;

/// What is asked for, and how many calls of each way in a round.
const ASKED: [(Duration, usize); 3] = [
    (Duration::from_micros(100), 500),
    (Duration::from_millis(1), 250),
    (Duration::from_millis(10), 125),
];

/// All ways take their turn in each.
const ROUNDS: usize = 4;

/// Pause between calls.
const GAP: Duration = Duration::from_micros(300);

/// The goal for the 99th percentile of the error.
const GOAL_NS: f64 = 20e3;

/// A way to delay a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    BusyLoop,
    Sleep,
    Injector,
    Strace { seccomp: bool },
    Bpftrace,
}

const WAYS: [Way; 7] = [
    Way::Nothing,
    Way::BusyLoop,
    Way::Injector,
    Way::Bpftrace,
    Way::Sleep,
    Way::Strace { seccomp: true },
    Way::Strace { seccomp: false },
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing (baseline)",
            Self::BusyLoop => "busy loop in a program (floor for spinning)",
            Self::Sleep => "`nanosleep` in a program (floor for sleeping)",
            Self::Injector => "injector, seen by the caller",
            Self::Strace { seccomp: false } => "strace",
            Self::Strace { seccomp: true } => "strace --seccomp-bpf",
            Self::Bpftrace => "bpftrace, a loop",
        }
    }
}

/// What came of one way with one delay.
#[derive(Default)]
struct Seen {
    /// Wall time of the calls.
    calls: Times,
    /// Delivered less asked, as the injector has recorded it.
    recorded: Times,
    /// Why there is nothing.
    refused: Option<String>,
}

/// Measures all ways.
pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "How exact delays are",
        &format!(
            "Datagrams to loopback, one every {} µs and the delay; {ROUNDS} rounds in which all \
             ways take their turn. \"Too long\" is the time of the call less the delay that was \
             asked for and less the median call of the baseline.",
            GAP.as_micros()
        ),
        "asked, way | calls | call p50 | call p99 | too long p50 | too long p99",
    );
    let bpftrace = setup::ensure_bpftrace().map_err(|error| format!("{error:#}"));
    for (asked, count) in ASKED {
        let mut seen: Vec<(Way, Seen)> = WAYS.map(|way| (way, Seen::default())).into();
        for round in 1..=ROUNDS {
            eprintln!("bench: delays of {asked:?}, round {round} of {ROUNDS}");
            for (way, seen) in &mut seen {
                if *way == Way::Bpftrace && seen.refused.is_none() {
                    seen.refused = bpftrace.clone().err();
                }
                if seen.refused.is_some() {
                    continue;
                }
                match one(bench, *way, asked, count, seen) {
                    // It is not ours: it may fail, and the others go on.
                    Err(error) if *way == Way::Bpftrace => seen.refused = Some(error.to_string()),
                    result => result?,
                }
            }
        }
        tell(&mut section, asked, &seen);
    }
    Ok(section)
}

/// Adds the rows and the goal of one delay.
fn tell(section: &mut Section, asked: Duration, seen: &[(Way, Seen)]) {
    let asked_ns = asked.as_nanos() as f64;
    let natural = seen[0].1.calls.quantile(0.5).unwrap_or_default();
    let shown = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), time);
    for (way, seen) in seen {
        if let Some(reason) = &seen.refused {
            section
                .left_out
                .push(format!("{asked:?}, {}: {reason}", way.name()));
            continue;
        }
        let call = |share| seen.calls.quantile(share);
        // A program's own wait contains no send.
        let send = match way {
            Way::BusyLoop | Way::Sleep => 0.,
            _ => natural,
        };
        let late = |share| match way {
            Way::Nothing => None,
            _ => call(share).map(|ns| ns - asked_ns - send),
        };
        section.row([
            format!("{asked:?}, {}", way.name()),
            seen.calls.len().to_string(),
            shown(call(0.5)),
            shown(call(0.99)),
            shown(late(0.5)),
            shown(late(0.99)),
        ]);
        if *way == Way::Injector {
            let error = |share| seen.recorded.quantile(share);
            section.row([
                format!("{asked:?}, injector, by its records"),
                seen.recorded.len().to_string(),
                shown(error(0.5).map(|ns| ns + asked_ns)),
                shown(error(0.99).map(|ns| ns + asked_ns)),
                shown(error(0.5)),
                shown(error(0.99)),
            ]);
        }
    }
    section.goals.push(goal(asked, seen));
}

fn goal(asked: Duration, seen: &[(Way, Seen)]) -> Goal {
    let of = |way| {
        seen.iter()
            .find(|(other, _)| *other == way)
            .map(|(_, seen)| seen)
    };
    let error = of(Way::Injector).and_then(|seen| seen.recorded.quantile(0.99));
    let floor = of(Way::BusyLoop).and_then(|seen| seen.calls.quantile(0.99));
    Goal {
        wanted: format!("spin, {asked:?}: p99 of the error at most 20 µs"),
        measured: match (error, floor) {
            (Some(error), Some(floor)) => format!(
                "{}; a busy loop in a program here: {}",
                time(error),
                time(floor - asked.as_nanos() as f64)
            ),
            _ => "no delay was recorded".to_owned(),
        },
        verdict: error.map_or(Verdict::Unknown, |error| Verdict::of(error <= GOAL_NS)),
    }
}

/// One round of one way.
fn one(bench: &Bench, way: Way, asked: Duration, count: usize, seen: &mut Seen) -> Result<()> {
    let command = bench.programs.command(
        "sends",
        &format!(
            "udp4 sendto {count} 64 --times --gap-us {}",
            GAP.as_micros()
        ),
    );
    let finish = |mut program: Program| -> Result<Vec<f64>> {
        program.go()?;
        times(&program.finish()?)
    };
    let calls = match way {
        Way::BusyLoop => waits(asked, count, |until| {
            while Instant::now() < until {
                hint::spin_loop();
            }
        }),
        Way::Sleep => waits(asked, count, |_| thread::sleep(asked)),
        Way::Nothing => finish(Program::start(command)?)?,
        Way::Strace { seccomp } => {
            finish(Program::start(others::strace(&command, asked, seccomp))?)?
        }
        Way::Bpftrace => {
            let program = Program::start(command)?;
            let _bpftrace = Bpftrace::start(program.pid(), asked)?;
            finish(program)?
        }
        Way::Injector => {
            let program = Program::start(command)?;
            let arguments = format!(
                "--all --delay {0}us --max-spin {1}us --pid {2}",
                asked.as_micros(),
                2 * asked.as_micros(),
                program.pid()
            );
            let injector = Attached::start(&bench.injector, &arguments, Keep::All)?;
            let calls = finish(program)?;
            seen.recorded.extend(errors(&injector.finish()?));
            calls
        }
    };
    seen.calls.extend(calls);
    Ok(())
}

/// What waits of our own take, in nanoseconds.
fn waits(asked: Duration, count: usize, wait: impl Fn(Instant)) -> Vec<f64> {
    (0..count)
        .map(|_| {
            thread::sleep(GAP);
            let start = Instant::now();
            wait(start + asked);
            start.elapsed().as_nanos() as f64
        })
        .collect()
}

/// The times of the calls of `sends --times`.
fn times(output: &Value) -> Result<Vec<f64>> {
    let times = output["times_ns"].as_array();
    let times = times.context("the program wrote no times")?;
    Ok(times.iter().filter_map(Value::as_f64).collect())
}

/// Delivered less asked, of every send that was delayed.
fn errors(lines: &[Value]) -> Vec<f64> {
    lines
        .iter()
        .filter(|line| line["type"] == "send")
        .filter_map(|line| Some(line["delivered_ns"].as_f64()? - line["asked_ns"].as_f64()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_come_from_delayed_sends() {
        let lines = [
            json!({"type": "send", "asked_ns": 100, "delivered_ns": 103}),
            json!({"type": "send", "asked_ns": 100}),
            json!({"type": "summary", "asked_ns": 1, "delivered_ns": 2}),
        ];
        assert_eq!(errors(&lines), [3.]);
    }

    #[test]
    fn times_are_read() {
        assert_eq!(times(&json!({"times_ns": [1, 2]})).unwrap(), [1., 2.]);
        assert!(times(&json!({})).is_err());
    }

    #[test]
    fn what_was_refused_has_no_numbers() {
        let mut section = Section::default();
        let mut injected = Seen::default();
        injected.calls.extend([120.]);
        injected.recorded.extend([7.]);
        let mut nothing = Seen::default();
        nothing.calls.extend([10.]);
        let refused = Seen {
            refused: Some("no".into()),
            ..Seen::default()
        };
        let seen = [
            (Way::Nothing, nothing),
            (Way::Injector, injected),
            (Way::Bpftrace, refused),
        ];
        tell(&mut section, Duration::from_nanos(100), &seen);
        let rows: Vec<String> = section.rows.iter().map(|row| row.join(",")).collect();
        assert_eq!(
            rows,
            [
                "100ns, nothing (baseline),1,10 ns,10 ns,-,-",
                "100ns, injector, seen by the caller,1,120 ns,120 ns,10 ns,10 ns",
                "100ns, injector, by its records,1,107 ns,107 ns,7 ns,7 ns",
            ]
        );
        assert_eq!(section.left_out, ["100ns, bpftrace, a loop: no"]);
        assert_eq!(section.goals[0].verdict, Verdict::Met);
    }
}
