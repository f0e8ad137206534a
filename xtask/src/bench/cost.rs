//! What a hook costs each send: of a bystander, and of a target that no fault
//! chooses.

use std::time::Duration;

use anyhow::Result;

use super::{
    Bench,
    attached::{Attached, Keep},
    machine,
    program::{Program, number},
    report::{Goal, Section, Verdict, time},
    statistics::Spread,
};

const TRAFFIC: [&str; 2] = ["tcp", "udp"];

/// Sends in one round trip.
const SENDS: f64 = 2.;

/// The goal for bystanders with fentry and kprobe.
const BYSTANDER_PERCENT: f64 = 1.;

/// A target of a rule that can do something and never does: it draws for each
/// send and always loses.
const NO_FAULT: &str = "--delay 1ms --probability 0%";

/// How to measure.
pub struct Method {
    /// Heading of the table.
    pub title: &'static str,
    /// Hook and engine; those that do not work are reported as not measured.
    pub hooks: &'static [(&'static str, &'static str)],
    /// How long each run of a program lasts.
    pub length: Duration,
    /// How often each is repeated.
    pub rounds: usize,
    /// What the clock counts.
    pub clock: Clock,
}

/// What the clock of this machine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Time.
    Time,
    /// Instructions of the guest, 8 ns each: see
    /// [`crate::vm::Options::count_instructions`].
    Instructions,
}

impl Clock {
    fn show(self, ns: f64) -> String {
        match self {
            Self::Time => time(ns),
            Self::Instructions => format!("{:.0} instr.", ns / 8.),
        }
    }
}

/// Median round trips of one round, in nanoseconds.
struct Round {
    absent: [f64; 2],
    bystander: f64,
    target: f64,
}

impl Round {
    /// Without the hook, before and after: a drift of the machine cancels out.
    fn base(&self) -> f64 {
        f64::midpoint(self.absent[0], self.absent[1])
    }
}

/// Measures each hook that this kernel accepts.
pub fn measure(bench: &Bench, method: &Method) -> Result<Section> {
    let Method {
        title,
        hooks,
        length,
        rounds: count,
        clock,
    } = *method;
    let lead = format!(
        "Ping-pong of 64 bytes on loopback, client and server on one CPU; Linux {}. Round trip: \
         two sends. \"Noise\" compares without and without. Median of {count} rounds, in \
         brackets {}.",
        machine::release(),
        if count < Spread::CUT_FROM {
            "the least and the greatest"
        } else {
            "the second least and the second greatest"
        }
    );
    let mut section = Section::new(
        title,
        &lead,
        "hook, engine | traffic | round trip without | noise | bystander | a send | \
         target, no fault | a send",
    );
    for &(hook, engine) in hooks {
        let name = format!("{hook}, {engine}");
        let flags = format!("--hook {hook} --engine {engine} {NO_FAULT}");
        if let Err(error) = trial(bench, &flags) {
            section.left_out.push(format!("{name}: {error:#}"));
            continue;
        }
        let mut rounds = [Vec::new(), Vec::new()];
        for number in 1..=count {
            eprintln!("bench: cost of {name}, round {number} of {count}");
            for (rounds, round) in rounds.iter_mut().zip(one_round(bench, &flags, length)?) {
                rounds.push(round);
            }
        }
        for (traffic, rounds) in TRAFFIC.iter().zip(&rounds) {
            let ratio = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
            let a_send = |of: fn(&Round) -> f64| {
                clock.show(
                    Spread::of(
                        rounds
                            .iter()
                            .map(|round| (of(round) - round.base()) / SENDS),
                    )
                    .median,
                )
            };
            let bystander = ratio(|round| round.bystander / round.base());
            section.row([
                name.clone(),
                (*traffic).to_owned(),
                clock.show(ratio(Round::base).median),
                percent(ratio(|round| round.absent[1] / round.absent[0])),
                percent(bystander),
                a_send(|round| round.bystander),
                percent(ratio(|round| round.target / round.base())),
                a_send(|round| round.target),
            ]);
            if hook != "tracepoint" {
                section.goals.push(Goal {
                    wanted: format!(
                        "bystander at most {BYSTANDER_PERCENT} % on a {traffic} ping-pong, {name}"
                    ),
                    measured: format!("{} ({})", percent(bystander), machine::release()),
                    verdict: Verdict::of((bystander.median - 1.) * 100. <= BYSTANDER_PERCENT),
                });
            }
        }
    }
    Ok(section)
}

/// Whether the injector can be attached so here.
fn trial(bench: &Bench, flags: &str) -> Result<()> {
    let program = Program::start(bench.programs.command("sends", "udp4 sendto 1 1"))?;
    let arguments = format!("{flags} --pid {}", program.pid());
    Attached::start(&bench.injector, &arguments, Keep::Summary)?;
    Ok(())
}

/// One round for each kind of traffic.
fn one_round(bench: &Bench, flags: &str, length: Duration) -> Result<[Round; 2]> {
    // All start before the hook is attached, and differ in nothing but whether
    // they are in the table of targets.
    let start = || -> Result<Vec<Program>> {
        TRAFFIC
            .iter()
            .map(|traffic| {
                let seconds = length.as_secs_f64();
                let arguments = format!("{traffic} {seconds}s 64 --same-cpu --warmup 200");
                Program::start(bench.programs.command("pingpong", &arguments))
            })
            .collect()
    };
    let (before, bystanders, targets, after) = (start()?, start()?, start()?, start()?);
    let before = play(before)?;
    let pids: Vec<String> = targets.iter().map(Program::both_pids).collect();
    let arguments = format!("{flags} {}", pids.join(" "));
    let injector = Attached::start(&bench.injector, &arguments, Keep::Summary)?;
    let bystanders = play(bystanders)?;
    let targets = play(targets)?;
    injector.finish()?;
    let after = play(after)?;
    Ok([0, 1].map(|index| Round {
        absent: [before[index], after[index]],
        bystander: bystanders[index],
        target: targets[index],
    }))
}

/// Lets one after the other go; the median round trip of each.
fn play(programs: Vec<Program>) -> Result<Vec<f64>> {
    programs
        .into_iter()
        .map(|mut program| {
            program.go()?;
            number(&program.finish()?, "/p50_ns")
        })
        .collect()
}

fn percent(ratio: Spread) -> String {
    let of = |ratio: f64| (ratio - 1.) * 100.;
    format!(
        "{:+.1} % ({:+.1} to {:+.1})",
        of(ratio.median),
        of(ratio.low),
        of(ratio.high)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_cancels_out() {
        let round = Round {
            absent: [100., 104.],
            bystander: 103.02,
            target: 110.,
        };
        assert!((round.bystander / round.base() - 1.01).abs() < 1e-9);
    }

    #[test]
    fn ratios_are_shown_in_percent() {
        let ratio = Spread::of([1.012, 0.998, 1.02]);
        assert_eq!(percent(ratio), "+1.2 % (-0.2 to +2.0)");
    }
}
