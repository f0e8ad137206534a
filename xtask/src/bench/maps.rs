//! What it costs to trace the maps of a Go program, and whether the budget for
//! that is kept.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Bench,
    attached::Attached,
    machine,
    others::Bpftrace,
    processes,
    program::{Program, number},
    report::{Goal, Section, Verdict, rate, time},
    statistics::Spread,
};
use crate::{cargo, go, setup};

/// The Go that builds the program: the newest that is tested.
const GO: &str = "1.27";
/// All ways take their turn in each.
const ROUNDS: usize = 3;
/// How long a rate is measured, and how long the governor has before: it can
/// spend two seconds of budget at once at the start.
const MEASURED: Duration = Duration::from_secs(4);
const SETTLING: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_secs(1);
/// Percent of a CPU that is asked for: the default.
const BUDGET: f64 = 3.;
/// How much more than the budget may be lost, in percent of the throughput: as
/// much as two equal runs differ on a quiet machine.
const TOLERANCE: f64 = 1.;
const RATES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Operations, and what is hit in each.
const KINDS: [(&str, &str); 5] = [
    ("assign", "a write"),
    ("access", "a read"),
    ("delete", "a write and a delete"),
    ("iterate", "an iteration over 1024 elements"),
    ("mutex", "two goroutines contend for a mutex"),
];

/// The program, built in two ways.
struct Churn {
    plain: PathBuf,
    race: Result<PathBuf>,
}

impl Churn {
    fn build() -> Result<Self> {
        let toolchain = go::parse(GO)?.pop().context("no Go toolchain")?;
        let root = toolchain.root()?;
        Ok(Self {
            plain: compile(&root, "churn", &[])?,
            race: compile(&root, "churn-race", &["-race"]),
        })
    }
}

fn compile(root: &Path, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let program = cargo::target_directory().join("bench").join(name);
    let output = Command::new(root.join("bin/go"))
        .args(["build", "-o"])
        .arg(&program)
        .args(flags)
        .arg(".")
        .current_dir(cargo::workspace_root().join("injector/tests/targets/go/churn"))
        .env("GOROOT", root)
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOFLAGS", "")
        // -race needs C.
        .env("CGO_ENABLED", if flags.is_empty() { "0" } else { "1" })
        .output()
        .context("cannot start go")?;
    ensure!(
        output.status.success(),
        "go build {}: {}",
        flags.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(program)
}

/// Starts the program and lets it begin.
fn start(program: &Path, kind: &str, rate: u32) -> Result<Program> {
    let mut command = Command::new(program);
    command.arg(kind).arg(rate.to_string());
    let mut program = Program::start(command)?;
    program.go()?;
    Ok(program)
}

/// Operations in a second of the program's CPU time, over this time from now on.
/// Time in which it waits for a CPU is left out: nobody else's load counts.
fn speed(program: &mut Program, length: Duration) -> Result<f64> {
    program.ask("")?;
    thread::sleep(length);
    let said = program.ask("")?;
    Ok(number(&said, "/ops")? / number(&said, "/cpu_ns")? * 1e9)
}

/// Traces a process.
pub fn trace(bench: &Bench, pid: u32, budget: &str) -> Result<Attached> {
    let arguments = format!("--pid {pid} --budget {budget}");
    Attached::maps(&bench.injector, &arguments)
}

/// Ends it; what it says of the whole run.
pub fn summary(injector: Attached) -> Result<Value> {
    let lines = injector.finish()?;
    let summary = lines
        .into_iter()
        .find(|line| line["type"] == "maps_summary");
    summary.context("injector wrote no summary")
}

/// Measures all.
pub fn measure(bench: &Bench) -> Vec<Result<Section>> {
    match Churn::build() {
        Err(error) => vec![Err(error)],
        Ok(churn) => vec![
            hits(bench, &churn),
            budget(bench, &churn),
            others(bench, &churn),
        ],
    }
}

/// What a hit costs a program that does nothing else.
fn hits(bench: &Bench, churn: &Churn) -> Result<Section> {
    let mut section = Section::new(
        "Tracing maps: what a hit costs",
        &format!(
            "Linux {}, Go {GO}. One goroutine that does nothing else (two for the mutex), with \
             `injector maps --budget none` and without in turns; medians of {ROUNDS} rounds, all times CPU time of the program. \"A \
             hit\": by how much an operation takes longer, over the hits that it has. \"In the program\": \
             the part of it that the kernel programs measure themselves.",
            machine::release()
        ),
        "operation | without | traced | slower | a hit | in the program",
    );
    let mut memory = None;
    for (kind, what) in KINDS {
        eprintln!("bench: hits of {kind}");
        let mut program = start(&churn.plain, kind, 0)?;
        let [mut without, mut with, mut hit, mut inside] = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let free = 1e9 / speed(&mut program, SHORT)?;
            let injector = trace(bench, program.pid(), "none")?;
            program.ask("")?;
            thread::sleep(SHORT);
            let said = program.ask("")?;
            memory = Some((
                processes::memory(injector.pid())?,
                processes::maps(injector.pid())?,
            ));
            let summary = summary(injector)?;
            let operations = number(&said, "/ops")?;
            let traced = number(&said, "/cpu_ns")? / operations;
            let hits = number(&summary, "/hits")?;
            ensure!(hits > 0., "{kind}: no probe was hit");
            // The whole time that it was traced has the same mixture.
            let elapsed = number(&summary, "/elapsed_ns")?;
            let per_operation = hits / (elapsed * operations / number(&said, "/ns")?);
            without.push(free);
            with.push(traced);
            hit.push((traced - free) / per_operation);
            inside.push(number(&summary, "/program_ns")? / hits);
        }
        let [without, with, hit, inside] = [without, with, hit, inside].map(Spread::of);
        section.row([
            what.to_owned(),
            time(without.median),
            time(with.median),
            format!("x{:.1}", with.median / without.median),
            time(hit.median),
            time(inside.median),
        ]);
    }
    if let Some((memory, maps)) = memory {
        let _ = write!(
            section.lead,
            " Memory of injector: {} MiB resident, and {} MiB of the kernel's for its maps.",
            memory.resident / 1024,
            maps / 1024
        );
    }
    Ok(section)
}

/// Whether the budget is kept.
fn budget(bench: &Bench, churn: &Churn) -> Result<Section> {
    let mut section = Section::new(
        "Tracing maps: the budget",
        &format!(
            "A goroutine that keeps a CPU busy and writes to a map so many times a second, with `injector \
             maps --budget {BUDGET}%` and without in turns; medians of {ROUNDS} rounds. \"Lost\": by how \
             much fewer writes it does in the same CPU time, measured in the program, from {} s after the start on; \
             \"said\" is what injector measured for the whole run.",
            SETTLING.as_secs()
        ),
        "writes | lost | (least to most) | said | writes seen in | injector's own CPU time",
    );
    let [mut attach, mut detach, mut end] = [const { Vec::new() }; 3];
    for wanted in RATES {
        let mut program = start(&churn.plain, "assign", wanted)?;
        let [mut lost, mut said, mut seen, mut own] = [const { Vec::new() }; 4];
        let mut speeds = Vec::new();
        for round in 1..=ROUNDS {
            eprintln!("bench: budget at {wanted}/s, round {round} of {ROUNDS}");
            let before = speed(&mut program, MEASURED)?;
            let injector = trace(bench, program.pid(), &format!("{BUDGET}%"))?;
            thread::sleep(SETTLING);
            let with = speed(&mut program, MEASURED)?;
            let summary = summary(injector)?;
            let after = speed(&mut program, MEASURED)?;
            let without = f64::midpoint(before, after);
            speeds.push(without);
            lost.push((1. - with / without) * 100.);
            said.push(number(&summary, "/cost")? * 100.);
            own.push(number(&summary, "/own_ns")? / number(&summary, "/elapsed_ns")? * 100.);
            seen.push(share(&summary, "assign")? * 100.);
            attach.push(number(&summary, "/longest_attach_ns")?);
            // Where everything fits into the budget, nothing is taken away before the end.
            if summary["longest_detach_ns"].is_number() {
                detach.push(number(&summary, "/longest_detach_ns")?);
            }
            end.push(number(&summary, "/end_detach_ns")?);
        }
        let [lost, said, seen, own, speeds] = [lost, said, seen, own, speeds].map(Spread::of);
        section.row([
            rate(speeds.median),
            format!("{:.1} %", lost.median),
            format!("{:.1} to {:.1} %", lost.low, lost.high),
            format!("{:.2} %", said.median),
            format!("{:.1} % of the time", seen.median),
            format!("{:.1} %", own.median),
        ]);
        section.goals.push(Goal {
            wanted: format!("at {wanted} operations/s, at most {BUDGET} % is lost (±{TOLERANCE})"),
            measured: format!("{:.1} % ({:.1} to {:.1})", lost.median, lost.low, lost.high),
            verdict: Verdict::of(lost.median <= BUDGET + TOLERANCE),
        });
    }
    ensure!(!detach.is_empty(), "no window was closed");
    let longest = |times: &[f64]| times.iter().copied().fold(0., f64::max);
    let is_fast = longest(&attach).max(longest(&detach)) <= 100e6;
    let [attach, detach, end] = [attach, detach, end].map(|times| {
        let worst = time(longest(&times));
        format!("{} (at most {worst})", time(Spread::of(times).median))
    });
    section.goals.push(Goal {
        wanted: "windows open and close in at most 100 ms on a busy program".to_owned(),
        measured: format!(
            "longest of a run: to open {attach}, to close {detach}; to take all away at the end {end}"
        ),
        verdict: Verdict::of(is_fast),
    });
    Ok(section)
}

fn share(summary: &Value, operation: &str) -> Result<f64> {
    let seen = summary["seen"].as_array();
    let seen = seen.into_iter().flatten();
    let mut own = seen.filter(|one| one["operation"] == operation);
    let own = own.next().and_then(|one| one["share"].as_f64());
    own.with_context(|| format!("no share of {operation} in {summary}"))
}

/// A program that does nothing else, beside other ways to look at it.
fn others(bench: &Bench, churn: &Churn) -> Result<Section> {
    let mut section = Section::new(
        "Tracing maps: beside other tools",
        &format!(
            "A goroutine that does nothing else than write to a map; medians of {ROUNDS} rounds in \
             which all ways take their turn. bpftrace counts the hits of a uprobe at the entry of \
             `runtime.mapassign_fast64`; -race is the same program, built by Go with its race detector."
        ),
        "way | a write takes | slower",
    );
    let mut ways: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut program = start(&churn.plain, "assign", 0)?;
    let race = match &churn.race {
        Ok(race) => Some(race),
        Err(error) => {
            section.left_out.push(format!("-race: {error:#}"));
            None
        }
    };
    let mut raced = race.map(|race| start(race, "assign", 0)).transpose()?;
    let bpftrace = setup::ensure_bpftrace();
    if let Err(error) = &bpftrace {
        section.left_out.push(format!("bpftrace: {error:#}"));
    }
    let mut note = |way: &'static str, speed: f64| match ways.iter_mut().find(|it| it.0 == way) {
        Some((_, times)) => times.push(1e9 / speed),
        None => ways.push((way, vec![1e9 / speed])),
    };
    for round in 1..=ROUNDS {
        eprintln!("bench: other tools, round {round} of {ROUNDS}");
        note("without", speed(&mut program, SHORT)?);
        for (way, budget) in [
            ("injector maps", "3%"),
            ("injector maps --budget none", "none"),
        ] {
            let injector = trace(bench, program.pid(), budget)?;
            thread::sleep(SETTLING);
            note(way, speed(&mut program, MEASURED)?);
            summary(injector)?;
        }
        if let Some(raced) = &mut raced {
            note("-race", speed(raced, SHORT)?);
        }
        if bpftrace.is_ok() {
            let script = format!(
                "uprobe:{}:runtime.mapassign_fast64 /pid == {}/ {{ @ = count(); }}",
                churn.plain.display(),
                program.pid()
            );
            let tool = Bpftrace::run(&script)?;
            note("bpftrace", speed(&mut program, SHORT)?);
            drop(tool);
        }
    }
    let medians: Vec<(&str, f64)> = ways
        .into_iter()
        .map(|(way, times)| (way, Spread::of(times).median))
        .collect();
    let without = medians.first().map_or(1., |(_, median)| *median);
    for (way, median) in medians {
        section.row([
            way.to_owned(),
            time(median),
            format!("x{:.2}", median / without),
        ]);
    }
    Ok(section)
}
