//! Delays that were asked for, and delays that came: both engines, the tools
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
    program::{Program, number},
    report::{Goal, Section, Verdict, time},
    statistics::Times,
};
use crate::setup;

/// What is asked for, and how many calls of each way in a round.
const ASKED: [(Duration, usize); 5] = [
    (Duration::from_micros(100), 500),
    (Duration::from_millis(1), 250),
    (Duration::from_millis(10), 125),
    (Duration::from_millis(100), 25),
    (Duration::from_secs(1), 5),
];

/// Longer delays are not spun: `bpf_loop` ends at 2^23 rounds, in about half a second,
/// and nobody wants them from a loop in bpftrace either.
const LONGEST_SPIN: Duration = Duration::from_millis(10);

/// All ways take their turn in each.
const ROUNDS: usize = 4;

/// Pause between calls.
const GAP: Duration = Duration::from_micros(300);

/// The goal for the 99th percentile of the error while spinning.
const SPIN_GOAL_NS: f64 = 20e3;

/// The same while sleeping.
const SLEEP_GOAL_NS: f64 = 50e3;

/// The goal for the CPU time of a call whose thread sleeps, beyond that of a plain call.
const CPU_GOAL_NS: f64 = 300e3;

/// A way to delay a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    BusyLoop,
    Sleep,
    Injector(Engine),
    Strace { seccomp: bool },
    Bpftrace,
}

/// An engine of the injector, forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Spin,
    Sleep,
}

const WAYS: [Way; 8] = [
    Way::Nothing,
    Way::BusyLoop,
    Way::Injector(Engine::Spin),
    Way::Injector(Engine::Sleep),
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
            Self::Injector(Engine::Spin) => "injector, spin",
            Self::Injector(Engine::Sleep) => "injector, sleep",
            Self::Strace { seccomp: false } => "strace",
            Self::Strace { seccomp: true } => "strace --seccomp-bpf",
            Self::Bpftrace => "bpftrace, a loop",
        }
    }

    /// Whether it keeps a CPU busy for the whole delay.
    fn spins(self) -> bool {
        matches!(
            self,
            Self::BusyLoop | Self::Injector(Engine::Spin) | Self::Bpftrace
        )
    }
}

/// What came of one way with one delay.
#[derive(Default)]
struct Seen {
    /// Wall time of the calls.
    calls: Times,
    /// Delivered less asked, as the injector has recorded it.
    recorded: Times,
    /// CPU time of the program, in all rounds.
    cpu_ns: f64,
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
             asked for and less the median call of the baseline. \"CPU\" is the time that the \
             program used for each call, pause included, less that of the baseline.",
            GAP.as_micros()
        ),
        "asked, way | calls | call p50 | call p99 | too long p50 | too long p99 | CPU",
    );
    let bpftrace = setup::ensure_bpftrace().map_err(|error| format!("{error:#}"));
    for (asked, count) in ASKED {
        let mut seen: Vec<(Way, Seen)> = WAYS
            .into_iter()
            .filter(|way| asked <= LONGEST_SPIN || !way.spins())
            .map(|way| (way, Seen::default()))
            .collect();
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

/// Adds the rows and the goals of one delay.
fn tell(section: &mut Section, asked: Duration, seen: &[(Way, Seen)]) {
    let asked_ns = asked.as_nanos() as f64;
    let baseline = &seen[0].1;
    let natural = baseline.calls.quantile(0.5).unwrap_or_default();
    let shown = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), time);
    for (way, seen) in seen {
        if let Some(reason) = &seen.refused {
            section
                .left_out
                .push(format!("{asked:?}, {}: {reason}", way.name()));
            continue;
        }
        let call = |share| seen.calls.quantile(share);
        let late = |share| late(*way, seen, natural, asked, share);
        let cpu = match way {
            Way::Nothing | Way::BusyLoop | Way::Sleep => None,
            _ => extra_cpu(seen, baseline),
        };
        section.row([
            format!("{asked:?}, {}", way.name()),
            seen.calls.len().to_string(),
            shown(call(0.5)),
            shown(call(0.99)),
            shown(late(0.5)),
            shown(late(0.99)),
            shown(cpu),
        ]);
        if matches!(way, Way::Injector(_)) {
            let error = |share| seen.recorded.quantile(share);
            section.row([
                format!("{asked:?}, {}, by its records", way.name()),
                seen.recorded.len().to_string(),
                shown(error(0.5).map(|ns| ns + asked_ns)),
                shown(error(0.99).map(|ns| ns + asked_ns)),
                shown(error(0.5)),
                shown(error(0.99)),
                "-".to_owned(),
            ]);
        }
    }
    section.goals.extend(goals(asked, seen));
}

/// How much longer than asked for the calls of a way took.
fn late(way: Way, seen: &Seen, natural: f64, asked: Duration, share: f64) -> Option<f64> {
    // A program's own wait contains no send.
    let send = match way {
        Way::Nothing => return None,
        Way::BusyLoop | Way::Sleep => 0.,
        _ => natural,
    };
    let call = seen.calls.quantile(share)?;
    Some(call - asked.as_nanos() as f64 - send)
}

/// CPU time for each call beyond that of the baseline.
fn extra_cpu(seen: &Seen, baseline: &Seen) -> Option<f64> {
    let each = |seen: &Seen| (seen.calls.len() > 0).then(|| seen.cpu_ns / seen.calls.len() as f64);
    Some(each(seen)? - each(baseline)?)
}

fn goals(asked: Duration, seen: &[(Way, Seen)]) -> Vec<Goal> {
    let of = |way| {
        seen.iter()
            .find(|(other, seen)| *other == way && seen.refused.is_none())
            .map(|(_, seen)| seen)
    };
    let natural = seen[0].1.calls.quantile(0.5).unwrap_or_default();
    let late_by = |way| of(way).and_then(|seen| late(way, seen, natural, asked, 0.99));
    let mut goals = Vec::new();
    for (engine, name, most) in [
        (Engine::Spin, "spin", SPIN_GOAL_NS),
        (Engine::Sleep, "sleep", SLEEP_GOAL_NS),
    ] {
        let Some(seen) = of(Way::Injector(engine)) else {
            continue;
        };
        let error = seen.recorded.quantile(0.99);
        let floor = match engine {
            Engine::Spin => late_by(Way::BusyLoop).map(|ns| ("a busy loop", ns)),
            Engine::Sleep => late_by(Way::Sleep).map(|ns| ("`nanosleep`", ns)),
        };
        goals.push(Goal {
            wanted: format!("{name}, {asked:?}: p99 of the error at most {}", time(most)),
            measured: match (error, floor) {
                (Some(error), Some((what, floor))) => {
                    format!("{}; {what} in a program here: {}", time(error), time(floor))
                }
                (Some(error), None) => time(error),
                _ => "no delay was recorded".to_owned(),
            },
            verdict: error.map_or(Verdict::Unknown, |error| Verdict::of(error <= most)),
        });
    }
    let sleep = Way::Injector(Engine::Sleep);
    if let (Some(ours), Some(strace), Some(plain)) = (
        late_by(sleep),
        late_by(Way::Strace { seccomp: true }),
        late_by(Way::Sleep),
    ) {
        goals.push(Goal {
            wanted: format!(
                "sleep, {asked:?}: seen by the caller, p99 too long by a third of \
                 `strace --seccomp-bpf` at most, and by less than `nanosleep`"
            ),
            measured: format!("{}; {}; {}", time(ours), time(strace), time(plain)),
            verdict: Verdict::of(ours * 3. <= strace && ours < plain),
        });
    }
    if let Some(cpu) = of(sleep).and_then(|ours| extra_cpu(ours, &seen[0].1)) {
        goals.push(Goal {
            wanted: format!(
                "sleep, {asked:?}: CPU of the target for a delay at most {}",
                time(CPU_GOAL_NS)
            ),
            measured: time(cpu),
            verdict: Verdict::of(cpu <= CPU_GOAL_NS),
        });
    }
    goals
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
    let mut cpu_ns = 0.;
    let mut finish = |mut program: Program| -> Result<Vec<f64>> {
        program.go()?;
        let said = program.finish()?;
        cpu_ns = number(&said, "/cpu_ns")?;
        times(&said)
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
        Way::Injector(engine) => {
            let program = Program::start(command)?;
            let engine = match engine {
                Engine::Spin => format!("spin --max-spin {}us", 2 * asked.as_micros()),
                Engine::Sleep => "sleep".to_owned(),
            };
            let arguments = format!(
                "--all --delay {}us --engine {engine} --pid {}",
                asked.as_micros(),
                program.pid()
            );
            let injector = Attached::start(&bench.injector, &arguments, Keep::All)?;
            let calls = finish(program)?;
            seen.recorded.extend(errors(&injector.finish()?));
            calls
        }
    };
    seen.calls.extend(calls);
    seen.cpu_ns += cpu_ns;
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

    /// Calls and records of these lengths, and this much CPU time.
    fn seen(calls: &[f64], recorded: &[f64], cpu_ns: f64) -> Seen {
        let mut seen = Seen {
            cpu_ns,
            ..Seen::default()
        };
        seen.calls.extend(calls.iter().copied());
        seen.recorded.extend(recorded.iter().copied());
        seen
    }

    #[test]
    fn what_was_refused_has_no_numbers() {
        let mut section = Section::default();
        let refused = Seen {
            refused: Some("no".into()),
            ..Seen::default()
        };
        let seen = [
            (Way::Nothing, seen(&[10.], &[], 5.)),
            (Way::Injector(Engine::Spin), seen(&[120.], &[7.], 125.)),
            (Way::Bpftrace, refused),
        ];
        tell(&mut section, Duration::from_nanos(100), &seen);
        let rows: Vec<String> = section.rows.iter().map(|row| row.join(",")).collect();
        assert_eq!(
            rows,
            [
                "100ns, nothing (baseline),1,10 ns,10 ns,-,-,-",
                "100ns, injector, spin,1,120 ns,120 ns,10 ns,10 ns,120 ns",
                "100ns, injector, spin, by its records,1,107 ns,107 ns,7 ns,7 ns,-",
            ]
        );
        assert_eq!(section.left_out, ["100ns, bpftrace, a loop: no"]);
        assert_eq!(section.goals[0].verdict, Verdict::Met);
    }

    #[test]
    fn sleeping_has_to_beat_strace_and_a_plain_sleep() {
        let asked = Duration::from_micros(100);
        let verdicts = |plain: f64| -> Vec<Verdict> {
            let seen = [
                (Way::Nothing, seen(&[10e3], &[], 1e3)),
                (Way::Injector(Engine::Sleep), seen(&[130e3], &[20e3], 100e3)),
                (Way::Sleep, seen(&[100e3 + plain], &[], 0.)),
                (Way::Strace { seccomp: true }, seen(&[171e3], &[], 0.)),
            ];
            let goals = goals(asked, &seen);
            goals.into_iter().map(|goal| goal.verdict).collect()
        };
        assert_eq!(verdicts(21e3), [Verdict::Met, Verdict::Met, Verdict::Met]);
        assert_eq!(
            verdicts(19e3),
            [Verdict::Met, Verdict::Missed, Verdict::Met]
        );
    }
}
