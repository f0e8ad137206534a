//! Records from the kernel's ring buffer into the injector.

use anyhow::Result;
use serde_json::Value;

use super::{
    Bench,
    attached::{Attached, Keep},
    program::{Program, number},
    report::{Goal, Section, Verdict, rate, time},
    statistics::Spread,
};

/// Rounds of each source, in turns.
const ROUNDS: usize = 3;

/// The goal for one core.
const GOAL: f64 = 500e3;

/// Where sends come from. Too large datagrams fail inside the kernel's send
/// function: the most records a second that one thread can make.
const SOURCES: [(&str, &str, &str); 5] = [
    ("UDP, 1 thread", "udp 2 1", ""),
    ("UDP, 2 threads", "udp 2 2", ""),
    ("UDP, too large, 1 thread", "udp 2 1 --size 65536", ""),
    ("UDP, too large, 2 threads", "udp 2 2 --size 65536", ""),
    (
        "the same, all written as JSON",
        "udp 2 2 --size 65536",
        "--all",
    ),
];

/// The same time, and next to no sends: what the injector needs for itself.
const IDLE: &str = "udp 2 1 --rate 1";

/// One run of a source.
struct Run {
    /// Sends a second without the injector.
    alone: f64,
    /// And beside it.
    sends_per_second: f64,
    sends: f64,
    records: f64,
    lost: f64,
    cpu_ns: f64,
}

/// Measures it, with sends that are only observed.
pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "Records through the ring buffer",
        &format!(
            "`injector --pid PID --output json` beside a program that sends as fast as it can \
             for 2 s; median of {ROUNDS} rounds. Every send makes one record. \"CPU\" is all \
             user and system time of injector, less that of a run without sends, for each \
             record; \"one core\" is how many records a second that comes to."
        ),
        "source | sends alone | sends traced | records | lost | CPU for one | one core",
    );
    let mut idle = Vec::new();
    let mut runs = SOURCES.map(|_| Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("bench: ring buffer, round {round} of {ROUNDS}");
        idle.push(run(bench, IDLE, "")?.cpu_ns);
        for ((_, program, flags), runs) in SOURCES.iter().zip(&mut runs) {
            runs.push(run(bench, program, flags)?);
        }
    }
    let idle = Spread::of(idle).median;
    let (mut fastest, mut slowest_core, mut unaccounted) = (0_f64, f64::INFINITY, 0.);
    for ((name, _, flags), runs) in SOURCES.iter().zip(&runs) {
        let of = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(value)).median;
        let sum = |value: fn(&Run) -> f64| runs.iter().map(value).sum::<f64>();
        let cpu = Spread::of(runs.iter().map(|run| (run.cpu_ns - idle) / run.records)).median;
        let traced = of(|run| run.sends_per_second);
        section.row([
            (*name).to_owned(),
            rate(of(|run| run.alone)),
            rate(traced),
            format!("{:.0}", sum(|run| run.records)),
            format!("{:.0}", sum(|run| run.lost)),
            time(cpu),
            rate(1e9 / cpu),
        ]);
        unaccounted += sum(|run| (run.sends - run.records).abs());
        if flags.is_empty() {
            fastest = fastest.max(traced);
            slowest_core = slowest_core.min(1e9 / cpu);
        }
    }
    section.goals.push(Goal {
        wanted: "at least 500k records/s drained by one core without loss".to_owned(),
        measured: format!(
            "{} at least, by CPU time for each record; {unaccounted:.0} records lost, but the \
             sources made no more than {} here",
            rate(slowest_core),
            rate(fastest)
        ),
        verdict: Verdict::of(slowest_core >= GOAL && unaccounted == 0.),
    });
    Ok(section)
}

fn run(bench: &Bench, program: &str, flags: &str) -> Result<Run> {
    let start = || Program::start(bench.programs.command("firehose", program));
    let mut alone = start()?;
    alone.go()?;
    let alone = number(&alone.finish()?, "/sends_per_second")?;

    let mut traced = start()?;
    let arguments = format!("{flags} --pid {}", traced.pid());
    let injector = Attached::start(&bench.injector, &arguments, Keep::Summary)?;
    traced.go()?;
    let traced = traced.finish()?;
    let summary = injector.summary()?;
    account(alone, &traced, &summary)
}

fn account(alone: f64, traced: &Value, summary: &Value) -> Result<Run> {
    Ok(Run {
        alone,
        sends_per_second: number(traced, "/sends_per_second")?,
        sends: number(traced, "/sends")?,
        records: number(summary, "/sends/count")?,
        lost: number(summary, "/counters/records_dropped")?,
        cpu_ns: number(summary, "/own_cpu_ns")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_accounts_are_read() {
        let traced = json!({"sends": 7, "sends_per_second": 3.5});
        let summary = json!({
            "sends": {"count": 6}, "counters": {"records_dropped": 1}, "own_cpu_ns": 99
        });
        let run = account(4., &traced, &summary).unwrap();
        assert_eq!((run.sends, run.records, run.lost), (7., 6., 1.));
        assert!(account(4., &traced, &json!({})).is_err());
    }
}
