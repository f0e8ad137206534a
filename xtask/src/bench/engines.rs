//! What a way to delay sends costs the calls that it does not delay: those of
//! its target, and those of everybody else.

use std::{thread, time::Duration};

use anyhow::Result;

use super::{
    Bench,
    attached::{Attached, Keep},
    machine, others,
    program::{Program, number},
    report::{Section, time},
    statistics::Spread,
};

/// What each way is told to do to sends, of which the program makes none.
const DELAY: Duration = Duration::from_millis(1);

/// All ways take their turn in each.
const ROUNDS: usize = 9;

/// Attaching changes the kernel's code under everybody; not what is measured.
const SETTLE: Duration = Duration::from_millis(300);

/// Calls of getpid, and round trips over a pipe, in one run of the program.
const AMOUNT: &str = "50000 5000";

/// A way to delay sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    Injector { engine: &'static str },
    Strace { seccomp: bool },
}

const WAYS: [Way; 5] = [
    Way::Nothing,
    Way::Injector { engine: "spin" },
    Way::Injector { engine: "sleep" },
    Way::Strace { seccomp: true },
    Way::Strace { seccomp: false },
];

impl Way {
    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Injector { engine } => format!("injector, {engine}"),
            Self::Strace { seccomp: true } => "strace --seccomp-bpf".to_owned(),
            Self::Strace { seccomp: false } => "strace".to_owned(),
        }
    }
}

/// Times of one run of the program, in nanoseconds.
#[derive(Clone, Copy)]
struct Calls {
    getpid: f64,
    pipe: f64,
}

/// What one round of a way has seen.
struct Round {
    target: Calls,
    bystander: Calls,
}

/// Measures all ways.
pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "What the engines cost calls that are not delayed",
        &format!(
            "Linux {}. Each way is told to delay every send by {DELAY:?}; the program (`calls.c`) \
             makes none. \"getpid\" is the time of that system call, \"pipe\" that of a byte to \
             and fro between two processes over pipes, on one CPU: two writes, two reads. The \
             bystander is a second such program that runs while the target waits. Median of \
             {ROUNDS} rounds in which all ways take their turn, in brackets the second least and \
             the second greatest.",
            machine::release()
        ),
        "way | target: getpid | target: pipe | bystander: getpid | bystander: pipe",
    );
    let mut seen = WAYS.map(|way| (way, Vec::new()));
    for number in 1..=ROUNDS {
        eprintln!("bench: calls that are not delayed, round {number} of {ROUNDS}");
        for (way, rounds) in &mut seen {
            rounds.push(round(bench, *way)?);
        }
    }
    for (way, rounds) in &seen {
        let shown = |of: fn(&Round) -> f64| spread(Spread::of(rounds.iter().map(of)));
        section.row([
            way.name(),
            shown(|round| round.target.getpid),
            shown(|round| round.target.pipe),
            shown(|round| round.bystander.getpid),
            shown(|round| round.bystander.pipe),
        ]);
    }
    Ok(section)
}

/// One round of one way.
fn round(bench: &Bench, way: Way) -> Result<Round> {
    let command = || bench.programs.command("calls", AMOUNT);
    let bystander = Program::start(command())?;
    let target = Program::start(match way {
        Way::Strace { seccomp } => others::strace(&command(), DELAY, seccomp),
        _ => command(),
    })?;
    let injector = match way {
        Way::Injector { engine } => {
            // As strace, it has the other end of the pipe for a target, too.
            let arguments = format!(
                "--engine {engine} --delay {}ms --pid {} --children",
                DELAY.as_millis(),
                target.pid()
            );
            Some(Attached::start(&bench.injector, &arguments, Keep::Summary)?)
        }
        _ => None,
    };
    thread::sleep(SETTLE);
    let bystander = calls(bystander)?;
    let target = calls(target)?;
    if let Some(injector) = injector {
        injector.finish()?;
    }
    Ok(Round { target, bystander })
}

/// Lets the program go; what it says.
fn calls(mut program: Program) -> Result<Calls> {
    program.go()?;
    let said = program.finish()?;
    Ok(Calls {
        getpid: number(&said, "/getpid_ns")?,
        pipe: number(&said, "/pipe_ns")?,
    })
}

fn spread(spread: Spread) -> String {
    format!(
        "{} ({} to {})",
        time(spread.median),
        time(spread.low),
        time(spread.high)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_shown_with_its_units() {
        let shown = spread(Spread::of([310., 290., 20_500.]));
        assert_eq!(shown, "310 ns (290 ns to 20.5 µs)");
    }
}
