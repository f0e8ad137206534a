//! From the start of the injector to its first record.

use anyhow::Result;

use super::{
    Bench,
    attached::{Attached, Keep},
    program::{Program, number},
    report::{Goal, Section, Verdict, time},
    statistics::Times,
};

const RUNS: usize = 20;

/// The goal for the first event.
const FIRST_EVENT_NS: f64 = 300e6;

/// Measures it, beside a process that sends all the time.
pub fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "Start",
        &format!(
            "{RUNS} runs of `injector --pid PID --all --output json` beside a process that sends \
             every 200 µs. The baseline is `injector --version`. CPU time is that of a whole run."
        ),
        "from the start until | p50 | longest",
    );
    eprintln!("bench: {RUNS} starts");
    let arguments = "udp4 sendto 10000000 64 --gap-us 200 --max-seconds 300";
    let mut program = Program::start(bench.programs.command("sends", arguments))?;
    program.go()?;
    let [mut version, mut attached, mut first, mut cpu] = [const { Vec::new() }; 4];
    for _ in 0..RUNS {
        version.push(version_ns(bench)?);
        let arguments = format!("--all --pid {}", program.pid());
        let injector = Attached::start(&bench.injector, &arguments, Keep::Summary)?;
        attached.push(injector.ready.as_nanos() as f64);
        first.push(injector.first_line()?.as_nanos() as f64);
        cpu.push(number(&injector.summary()?, "/own_cpu_ns")?);
    }
    for (what, values) in [
        ("its end, for `--version`", version),
        ("hooks are attached", attached),
        ("the first send is written", first.clone()),
        ("(CPU time of the run)", cpu),
    ] {
        let (median, longest) = middle_and_end(values);
        section.row([what.to_owned(), time(median), time(longest)]);
    }
    let (median, longest) = middle_and_end(first);
    section.goals.push(Goal {
        wanted: "start to first event at most 300 ms".to_owned(),
        measured: format!("p50 {}, longest {}", time(median), time(longest)),
        verdict: Verdict::of(longest <= FIRST_EVENT_NS),
    });
    Ok(section)
}

fn version_ns(bench: &Bench) -> Result<f64> {
    let started = std::time::Instant::now();
    std::process::Command::new(&bench.injector)
        .arg("--version")
        .output()?;
    Ok(started.elapsed().as_nanos() as f64)
}

fn middle_and_end(values: Vec<f64>) -> (f64, f64) {
    let mut times = Times::default();
    times.extend(values);
    let at = |share| times.quantile(share).unwrap_or_default();
    (at(0.5), at(1.))
}
