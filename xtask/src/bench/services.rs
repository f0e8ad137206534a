//! Real services under load, of whose sends one in a hundred is delayed.

use std::time::Duration;

use anyhow::Result;

use super::{
    Bench,
    attached::{Attached, Keep},
    machine,
    program::{Program, number},
    report::{Goal, Section, Verdict, time},
    server::{Kind, Server},
    statistics::Spread,
};
use crate::setup::Servers;

/// What chosen sends are delayed by.
const DELAY: Duration = Duration::from_millis(100);

/// All ways take their turn in each.
const ROUNDS: usize = 5;

/// How long a load lasts.
const SECONDS: u32 = 2;

/// An answer that takes at least this long has met a delay.
const SLOW: Duration = Duration::from_millis(50);

/// A load: name, connections, microseconds of pause after an answer.
type Load = (&'static str, u32, u32);

/// The second keeps both CPUs busy, and has connections to spare for those that
/// wait.
const LOADS: [Load; 2] = [("paced", 16, 20_000), ("flat out", 64, 0)];

/// What is beside the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Without,
    /// The injector watches each send and chooses none: what it costs.
    Watched,
    Delayed,
}

const WAYS: [Way; 3] = [Way::Without, Way::Watched, Way::Delayed];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Watched => "0 % delayed",
            Self::Delayed => "1 % delayed",
        }
    }

    /// Percent of the sends that are delayed, if there is an injector.
    fn percent(self) -> Option<u32> {
        match self {
            Self::Without => None,
            Self::Watched => Some(0),
            Self::Delayed => Some(1),
        }
    }
}

/// What the clients saw in one run, times in nanoseconds.
struct Run {
    answers: f64,
    slow: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p995: f64,
    /// Of the answers that were not slow.
    quick_p50: f64,
    quick_p99: f64,
}

impl Run {
    fn per_second(&self) -> f64 {
        self.answers / f64::from(SECONDS)
    }
}

/// One service under one load: the runs of each way.
struct Seen {
    kind: Kind,
    load: Load,
    runs: [Vec<Run>; 3],
}

/// Measures all services.
pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "Real services",
        &format!(
            "Linux {}. `injector --pid … --children --probability 1% --delay {DELAY:?}` beside a \
             service under load for {SECONDS} s; median of {ROUNDS} rounds in which all ways take \
             their turn. With \"0 % delayed\" the injector watches each send and chooses none. Paced: {} connections, each pauses for {} ms after an answer; flat out: {} \
             connections that do not pause. \"Slow\": answers after {SLOW:?} or more; \"the \
             others\" are all but those.",
            machine::release(),
            LOADS[0].1,
            LOADS[0].2 / 1000,
            LOADS[1].1,
        ),
        "service, load | | answers | p50 | p90 | p99 | p99.5 | slow | the others: p50 | p99",
    );
    let servers = Servers::ensure()?;
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let server = Server::start(bench, &servers, kind)?;
        for load in LOADS {
            let mut seen = Seen {
                kind,
                load,
                runs: WAYS.map(|_| Vec::new()),
            };
            for number in 1..=ROUNDS {
                eprintln!(
                    "bench: {}, {}, round {number} of {ROUNDS}",
                    kind.name(),
                    load.0
                );
                for (way, runs) in WAYS.into_iter().zip(&mut seen.runs) {
                    runs.push(run(bench, &server, kind.protocol(), load, way)?);
                }
            }
            all.push(seen);
        }
    }
    for seen in &all {
        rows(&mut section, seen);
    }
    section.goals = all
        .iter()
        .filter(|seen| seen.kind == Kind::Go)
        .flat_map(goals)
        .collect();
    Ok(section)
}

fn run(bench: &Bench, server: &Server, protocol: &str, load: Load, way: Way) -> Result<Run> {
    let (_, connections, pause_us) = load;
    let arguments = format!(
        "{protocol} {} {connections} {SECONDS} --pause-us {pause_us} --slow-ms {}",
        server.port,
        SLOW.as_millis()
    );
    let mut clients = Program::start(bench.programs.command("load", &arguments))?;
    let injector = match way.percent() {
        None => None,
        Some(percent) => {
            let arguments = format!(
                "--pid {} --children --probability {percent}% --delay {}ms \
                 --max-delay-per-second 700h --max-total-delay 700h",
                server.pid(),
                DELAY.as_millis()
            );
            let injector = Attached::start(&bench.injector, &arguments, Keep::Summary)?;
            Some(injector)
        }
    };
    clients.go()?;
    let said = clients.finish()?;
    if let Some(injector) = injector {
        injector.finish()?;
    }
    let of = |name: &str| number(&said, name);
    Ok(Run {
        answers: of("/answers")?,
        slow: of("/slow")?,
        p50: of("/p50_ns")?,
        p90: of("/p90_ns")?,
        p99: of("/p99_ns")?,
        p995: of("/p995_ns")?,
        quick_p50: of("/quick_p50_ns")?,
        quick_p99: of("/quick_p99_ns")?,
    })
}

fn rows(section: &mut Section, seen: &Seen) {
    for (way, runs) in WAYS.into_iter().zip(&seen.runs) {
        let of = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(value)).median;
        section.row([
            format!("{}, {}", seen.kind.name(), seen.load.0),
            way.name().to_owned(),
            format!("{:.0}/s", of(Run::per_second)),
            time(of(|run| run.p50)),
            time(of(|run| run.p90)),
            time(of(|run| run.p99)),
            time(of(|run| run.p995)),
            format!("{:.2} %", of(|run| run.slow / run.answers) * 100.),
            time(of(|run| run.quick_p50)),
            time(of(|run| run.quick_p99)),
        ]);
    }
}

/// What is to hold for a service whose sends have threads of their own. The
/// noise is what the rounds without differ by among themselves.
fn goals(seen: &Seen) -> Vec<Goal> {
    let [without, _, with] = &seen.runs;
    let most = |value: fn(&Run) -> f64| without.iter().map(value).fold(0., f64::max);
    let median = |value: fn(&Run) -> f64| Spread::of(with.iter().map(value)).median;
    let name = format!("{}, {}", seen.kind.name(), seen.load.0);
    let (others, slowest) = (median(|run| run.quick_p99), most(|run| run.quick_p99));
    let (delayed, natural) = (median(|run| run.p995), most(|run| run.p995));
    let mut goals = vec![
        Goal {
            wanted: format!("{name}: p99 of the answers that were not slow within noise"),
            measured: format!("{}; without, up to {}", time(others), time(slowest)),
            verdict: Verdict::of(others <= slowest),
        },
        Goal {
            wanted: format!("{name}: p99.5 of all answers shows the delay"),
            measured: format!("{}; without, up to {}", time(delayed), time(natural)),
            verdict: Verdict::of(delayed >= SLOW.as_nanos() as f64 && natural < delayed),
        },
    ];
    // A paced connection that waits does not ask meanwhile, whatever it costs.
    if seen.load.2 == 0 {
        let answers = median(Run::per_second);
        let fewest = without
            .iter()
            .map(Run::per_second)
            .fold(f64::INFINITY, f64::min);
        goals.push(Goal {
            wanted: format!("{name}: answers a second within noise"),
            measured: format!("{answers:.0}/s; without, down to {fewest:.0}/s"),
            verdict: Verdict::of(answers >= fewest),
        });
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(answers: f64, quick_p99: f64, p995: f64) -> Run {
        Run {
            answers,
            slow: 0.,
            p50: 1.,
            p90: 1.,
            p99: 1.,
            p995,
            quick_p50: 1.,
            quick_p99,
        }
    }

    #[test]
    fn noise_is_what_rounds_without_differ_by() {
        let verdicts = |with: Run| -> Vec<Verdict> {
            let seen = Seen {
                kind: Kind::Go,
                load: LOADS[1],
                runs: [
                    vec![run(90., 1e6, 2e6), run(99., 2e6, 3e6)],
                    Vec::new(),
                    vec![with],
                ],
            };
            goals(&seen).iter().map(|goal| goal.verdict).collect()
        };
        assert_eq!(verdicts(run(91., 1.9e6, 90e6)), [Verdict::Met; 3]);
        assert_eq!(verdicts(run(89., 2.1e6, 3e6)), [Verdict::Missed; 3]);
    }
}
