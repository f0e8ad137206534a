//! Many threads under the sleep engine: delays a second, and the memory of
//! those that sleep at once.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench,
    attached::{Attached, Keep},
    processes,
    program::{Program, number},
    report::{Goal, Section, Verdict, rate, time},
    statistics::Spread,
};

/// What each send is delayed by while delays a second are counted.
const DELAY: Duration = Duration::from_millis(1);

/// Threads that send, each as soon as its last send is over.
const SENDERS: [usize; 4] = [16, 64, 256, 1000];

/// With more threads than this that sleep by themselves, two CPUs are so busy
/// that the program does not get to start them all.
const MOST_IN_PROGRAM: usize = 256;

/// All ways and numbers of threads take their turn in each.
const ROUNDS: usize = 3;

/// Until every thread runs, and the margins of the engine have settled.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long delays are counted.
const LENGTH: Duration = Duration::from_secs(3);

/// The goal for delays a second.
const GOAL_PER_SECOND: f64 = 30e3;

/// Threads that are to sleep at once.
const SLEEPERS: [usize; 2] = [1000, 10_000];

/// How long they sleep: longer than it takes to start them all.
const LONG: Duration = Duration::from_mins(1);

/// How long it may take until all of them sleep.
const PATIENCE: Duration = Duration::from_secs(40);

/// So that no ceiling is met but the engine's.
const NO_CEILINGS: &str = "--max-delay-per-second 700h --max-total-delay 700h \
                           --max-sends-per-second 10000000 --duration 0";

/// A way for a thread to wait for a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `usleep` after the send: what this machine can do without any tool.
    Program,
    Injector,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Program => "`usleep` in the program",
            Self::Injector => "injector, sleep",
        }
    }
}

/// The injector and its helpers.
#[derive(Clone, Copy)]
struct Parts {
    injector: u32,
    server: u32,
    holder: u32,
}

impl Parts {
    fn of(injector: u32) -> Result<Self> {
        let child = |pid: u32, what: &str| -> Result<u32> {
            let children = processes::children(pid)?;
            let first = children.first().copied();
            first.with_context(|| format!("process {pid} has no child that is the {what}"))
        };
        let server = child(injector, "server of the sleep engine")?;
        let holder = child(server, "holder of the sleep engine")?;
        Ok(Self {
            injector,
            server,
            holder,
        })
    }

    fn all(self) -> [u32; 3] {
        [self.injector, self.server, self.holder]
    }
}

/// One run of one way with one number of threads.
struct Run {
    per_second: f64,
    p50_ns: f64,
    p99_ns: f64,
    /// CPU time for each delay: target, injector, server, holder.
    cpu_ns: [f64; 4],
    /// No send was shorter than its delay.
    complete: bool,
}

/// Counts delays a second.
pub fn throughput(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "Delays a second",
        &format!(
            "Threads of one program that send datagrams to loopback, each as soon as its last \
             send is over, with a delay of {DELAY:?} for each; counted for {} s, median of \
             {ROUNDS} rounds. CPU is user and system time for each delay.",
            LENGTH.as_secs()
        ),
        "threads, way | delays | call p50 | call p99 | CPU: target | injector | server | holder | \
         CPUs busy",
    );
    let ways = SENDERS.map(|threads| [(threads, Way::Program), (threads, Way::Injector)]);
    let mut seen: Vec<_> = ways
        .into_iter()
        .flatten()
        .filter(|(threads, way)| *way == Way::Injector || *threads <= MOST_IN_PROGRAM)
        .map(|(threads, way)| (threads, way, Vec::new()))
        .collect();
    for number in 1..=ROUNDS {
        eprintln!("bench: delays a second, round {number} of {ROUNDS}");
        for (threads, way, runs) in &mut seen {
            runs.push(run(bench, *threads, *way)?);
        }
    }
    let mut most = 0_f64;
    for (threads, way, runs) in &seen {
        let of = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(value)).median;
        let per_second = of(|run| run.per_second);
        let cpu =
            [0, 1, 2, 3].map(|index| Spread::of(runs.iter().map(|run| run.cpu_ns[index])).median);
        let busy = Spread::of(
            runs.iter()
                .map(|run| run.cpu_ns.iter().sum::<f64>() * run.per_second / 1e9),
        );
        let ours = |ns: f64| {
            if *way == Way::Injector {
                time(ns)
            } else {
                "-".to_owned()
            }
        };
        let complete = runs.iter().all(|run| run.complete);
        if !complete {
            // Some were not delayed, so nothing of this is for a delay.
            let way = format!("{threads}, {}", way.name());
            let cell = |column| match column {
                0 => way.clone(),
                1 => "not all delayed".to_owned(),
                _ => "-".to_owned(),
            };
            section.row::<9>(std::array::from_fn(cell));
            continue;
        }
        section.row([
            format!("{threads}, {}", way.name()),
            rate(per_second),
            time(of(|run| run.p50_ns)),
            time(of(|run| run.p99_ns)),
            time(cpu[0]),
            ours(cpu[1]),
            ours(cpu[2]),
            ours(cpu[3]),
            format!("{:.2}", busy.median),
        ]);
        if *way == Way::Injector {
            most = most.max(per_second);
        }
    }
    section.goals.push(Goal {
        wanted: format!(
            "at least {} delays of {DELAY:?} on this machine",
            rate(GOAL_PER_SECOND)
        ),
        measured: format!("{} at most", rate(most)),
        verdict: Verdict::of(most >= GOAL_PER_SECOND),
    });
    Ok(section)
}

fn run(bench: &Bench, threads: usize, way: Way) -> Result<Run> {
    let gap = match way {
        Way::Program => DELAY.as_micros(),
        Way::Injector => 0,
    };
    let command = bench
        .programs
        .command("delayed_senders", &format!("{threads} {gap}"));
    let mut program = Program::start(command)?;
    let injector = match way {
        Way::Program => None,
        Way::Injector => Some(attach(bench, program.pid(), DELAY)?),
    };
    program.go()?;
    thread::sleep(WARM_UP);
    // Its main thread sorts and reports, among a thousand that want the CPU, too.
    processes::prefer(program.pid())?;
    let pids = match &injector {
        Some(injector) => Parts::of(injector.pid())?.all().to_vec(),
        None => Vec::new(),
    };
    let cpu = || -> Result<Vec<f64>> { pids.iter().map(|pid| processes::cpu_ns(*pid)).collect() };
    let before = program.ask("report")?;
    let cpu_before = cpu()?;
    program.say("reset")?;
    let started = Instant::now();
    thread::sleep(LENGTH);
    let took = started.elapsed();
    let cpu_after = cpu()?;
    let after = program.ask("report")?;
    let sends = number(&after, "/sends")?;
    // Threads that starve can lose the lease, and a sleep can be cut short.
    let shortest = number(&after, "/min_ns")?;
    let complete = injector.is_none() || shortest >= DELAY.as_nanos() as f64;
    let mut cpu_ns = [0.; 4];
    cpu_ns[0] = (number(&after, "/cpu_ns")? - number(&before, "/cpu_ns")?) / sends;
    for (index, (after, before)) in cpu_after.iter().zip(&cpu_before).enumerate() {
        cpu_ns[index + 1] = (after - before) / sends;
    }
    program.say("end")?;
    let run = Run {
        per_second: sends / took.as_secs_f64(),
        p50_ns: number(&after, "/p50_ns")?,
        p99_ns: number(&after, "/p99_ns")?,
        cpu_ns,
        complete,
    };
    program.finish()?;
    Ok(run)
}

/// Shows what sleepers cost in memory.
pub fn memory(bench: &Bench) -> Section {
    let mut section = Section::new(
        "Memory of threads that sleep at once",
        "Threads of one program, each inside one delayed send. RSS (PSS) of the three processes \
         of the injector; \"BPF maps\" is kernel memory that is allocated at the start; \"page \
         cache\" is by how much that of the whole system has grown while they fell asleep, other \
         programs' included. \"CPUs busy meanwhile\": CPU time a second of target, injector, \
         server and holder while all sleep.",
        "sleepers | injector | server | holder | BPF maps | page cache | the target itself | \
         CPUs busy meanwhile",
    );
    for threads in SLEEPERS {
        eprintln!("bench: {threads} threads asleep at once");
        match sleepers(bench, threads) {
            Ok(row) => section.row(row),
            Err(error) => section
                .left_out
                .push(format!("{threads} sleepers: {error:#}")),
        }
    }
    section
}

fn sleepers(bench: &Bench, threads: usize) -> Result<[String; 8]> {
    let command = bench
        .programs
        .command("delayed_senders", &format!("{threads} 0"));
    let mut program = Program::start(command)?;
    let injector = attach(bench, program.pid(), LONG)?;
    let cache = processes::page_cache()?;
    program.go()?;
    let started = Instant::now();
    loop {
        let report = program.ask("report")?;
        let inside = number(&report, "/inside")? as usize;
        if inside == threads {
            break;
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "only {inside} of {threads} threads were inside a send after {} s",
            PATIENCE.as_secs()
        );
        thread::sleep(Duration::from_millis(100));
    }
    // The last ones are inside, and may not sleep yet.
    thread::sleep(WARM_UP);
    let parts = Parts::of(injector.pid())?;
    let [ours, server, holder] = parts.all().map(processes::memory);
    let maps = processes::maps(parts.injector)?;
    let target = processes::memory(program.pid())?;
    let busy = busy(&[&parts.all()[..], &[program.pid()]].concat())?;
    let cache = processes::page_cache()?.saturating_sub(cache);
    let returned = number(&program.ask("report")?, "/sends")?;
    ensure!(returned == 0., "{returned} sends had returned");
    program.say("end")?;
    program.finish()?;
    let summary = injector.summary()?;
    for counter in ["sleepers_full", "sleeps_refused"] {
        let count = number(&summary, &format!("/counters/{counter}"))?;
        ensure!(count == 0., "{counter} is {count}: not all were asleep");
    }
    let both = |memory: processes::Memory| {
        format!("{} ({})", mib(memory.resident), mib(memory.proportional))
    };
    Ok([
        threads.to_string(),
        both(ours?),
        both(server?),
        both(holder?),
        mib(maps),
        mib(cache),
        both(target),
        format!("{busy:.2}"),
    ])
}

/// CPUs that processes keep busy.
fn busy(pids: &[u32]) -> Result<f64> {
    let used = || -> Result<f64> { pids.iter().map(|pid| processes::cpu_ns(*pid)).sum() };
    let (before, started) = (used()?, Instant::now());
    thread::sleep(LENGTH);
    let took = started.elapsed();
    Ok((used()? - before) / took.as_nanos() as f64)
}

fn attach(bench: &Bench, pid: u32, delay: Duration) -> Result<Attached> {
    let arguments = format!(
        "--engine sleep --delay {0}ms --max-delay {0}ms {NO_CEILINGS} --pid {pid}",
        delay.as_millis()
    );
    Attached::start(&bench.injector, &arguments, Keep::Summary)
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shown_in_mebibytes() {
        assert_eq!(mib(1536), "1.5 MiB");
        assert_eq!(mib(0), "0.0 MiB");
    }
}
