//! The injector beside the kernel's own network emulator, `tc … netem`: what
//! the chosen process sees, and what another on the same interface does.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench,
    attached::{Attached, Keep},
    machine,
    program::{Program, number},
    report::{Section, time},
    statistics::Spread,
};

/// Heading of the table.
pub const TITLE: &str = "Beside `tc netem`, in a virtual machine";

/// What each way delays packets or sends by.
const DELAY: Duration = Duration::from_millis(10);

/// All ways take their turn in each.
const ROUNDS: usize = 5;

/// A TCP ping-pong for so long.
const TRAFFIC: &str = "tcp 1s 64 --same-cpu --warmup 5";

/// A way to delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    Netem,
    Injector,
}

const WAYS: [Way; 3] = [Way::Nothing, Way::Netem, Way::Injector];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Netem => "`tc qdisc add dev lo root netem delay 10ms`",
            Self::Injector => "`injector --pid … --delay 10ms`, both ends chosen",
        }
    }
}

/// Round trips of one ping-pong, in nanoseconds.
#[derive(Clone, Copy)]
struct Trips {
    p50: f64,
    p99: f64,
}

/// What one round of a way has seen.
struct Round {
    chosen: Trips,
    other: Trips,
}

/// Measures all ways; this kernel has netem, and `lo` is ours alone.
pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        TITLE,
        &format!(
            "Round trips of two TCP ping-pongs over the same interface, one after the other; the \
             first is the one that is to be delayed. A round trip is two sends, so {DELAY:?} for \
             each are {:?}. Linux {}, emulated. Median of {ROUNDS} rounds, in which all ways take \
             their turn.",
            2 * DELAY,
            machine::release()
        ),
        "way | chosen: p50 | p99 | other: p50 | p99",
    );
    let mut seen = WAYS.map(|way| (way, Vec::new()));
    for number in 1..=ROUNDS {
        eprintln!("bench: netem, round {number} of {ROUNDS}");
        for (way, rounds) in &mut seen {
            rounds.push(round(bench, *way)?);
        }
    }
    for (way, rounds) in &seen {
        let shown = |of: fn(&Round) -> f64| time(Spread::of(rounds.iter().map(of)).median);
        section.row([
            way.name().to_owned(),
            shown(|round| round.chosen.p50),
            shown(|round| round.chosen.p99),
            shown(|round| round.other.p50),
            shown(|round| round.other.p99),
        ]);
    }
    Ok(section)
}

fn round(bench: &Bench, way: Way) -> Result<Round> {
    let start = || Program::start(bench.programs.command("pingpong", TRAFFIC));
    let (chosen, other) = (start()?, start()?);
    match way {
        Way::Nothing => play(chosen, other),
        Way::Netem => {
            let _netem = Netem::start(DELAY)?;
            play(chosen, other)
        }
        Way::Injector => {
            let arguments = format!(
                "--engine sleep --delay {}ms {}",
                DELAY.as_millis(),
                chosen.both_pids()
            );
            let injector = Attached::start(&bench.injector, &arguments, Keep::Summary)?;
            let round = play(chosen, other);
            injector.finish()?;
            round
        }
    }
}

fn play(chosen: Program, other: Program) -> Result<Round> {
    Ok(Round {
        chosen: trips(chosen)?,
        other: trips(other)?,
    })
}

fn trips(mut program: Program) -> Result<Trips> {
    program.go()?;
    let said = program.finish()?;
    Ok(Trips {
        p50: number(&said, "/p50_ns")?,
        p99: number(&said, "/p99_ns")?,
    })
}

/// A queueing discipline of `lo` that delays each packet; gone when dropped.
struct Netem;

impl Netem {
    fn start(delay: Duration) -> Result<Self> {
        tc(
            "add",
            &["netem", "delay", &format!("{}ms", delay.as_millis())],
        )?;
        Ok(Self)
    }
}

impl Drop for Netem {
    fn drop(&mut self) {
        if let Err(error) = tc("del", &[]) {
            eprintln!("bench: lo stays slow until the machine ends: {error:#}");
        }
    }
}

fn tc(verb: &str, more: &[&str]) -> Result<()> {
    let output = Command::new("tc")
        .args(["qdisc", verb, "dev", "lo", "root"])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .context("cannot start tc")?;
    ensure!(
        output.status.success(),
        "tc qdisc {verb} dev lo root: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
