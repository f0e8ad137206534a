//! Real servers that are written in Go, saturated, with their maps traced: how
//! many answers that costs.

use std::path::Path;

use anyhow::Result;

use super::{
    Bench, machine,
    maps::{summary, trace},
    processes,
    program::{Program, number},
    report::{Goal, Section, Verdict},
    server::{GoServer, Server},
    statistics::Mean,
};
use crate::setup;

/// Percent of a CPU that tracing may cost: the default, and so much that it stands
/// out from what else goes on in a machine.
const BUDGETS: [f64; 2] = [3., 30.];
/// All budgets take their turn in each.
const ROUNDS: usize = 10;
/// Clients that ask without a pause: the server and they keep all CPUs busy.
const CONNECTIONS: u32 = 4;
/// How long a load lasts, in seconds: without the tracer, after its start, in which
/// it can spend two seconds of budget at once, and with it.
const WITHOUT: u32 = 4;
const SETTLING: u32 = 4;
const WITH: u32 = 6;

/// What a server did under one load.
struct Run {
    per_second: f64,
    /// CPUs that the server used.
    cpus: f64,
    /// Its CPU time by that of its clients: how fast the machine is just then, which
    /// changes by a tenth from one second to the next, is not in it.
    ratio: f64,
}

/// What a budget came to, in percent, by round.
#[derive(Default)]
struct Cost {
    fewer: Vec<f64>,
    cpu: Vec<f64>,
    said: Vec<f64>,
    own: Vec<f64>,
}

/// Measures all servers.
pub fn measure(bench: &Bench) -> Result<Section> {
    let root = setup::go_servers()?;
    let mut section = Section::new(
        "Tracing maps: real servers",
        &format!(
            "Linux {}, Debian's servers, {CONNECTIONS} clients that ask without a pause, which keeps {} \
             CPUs busy. `injector maps` for {WITH} s, {SETTLING} s after its start, between two loads of \
             {WITHOUT} s without it; means of {ROUNDS} rounds and their standard errors. \"CPU\": by how \
             much more CPU time the server takes than its clients do for the same answers, in percent of \
             one CPU, as the budget is. \"Fewer answers\": a second, which also has what injector uses \
             itself (\"own\", half a second of which is its start) and how fast the machine was just \
             then. \"Said\": what injector measured for the whole run.",
            machine::release(),
            std::thread::available_parallelism()?,
        ),
        "server | budget | answers without | CPU | said | fewer answers | own",
    );
    for server in GoServer::all()? {
        one(bench, &server, &root, &mut section)?;
    }
    Ok(section)
}

fn one(bench: &Bench, kind: &GoServer, root: &Path, section: &mut Section) -> Result<()> {
    let server = Server::start_go(kind, root)?;
    let load = |seconds| load(bench, kind, &server, seconds);
    // The first one warms it up.
    load(SETTLING)?;
    let mut before = load(WITHOUT)?;
    let mut costs = BUDGETS.map(|_| Cost::default());
    let mut answers = Vec::new();
    for round in 1..=ROUNDS {
        eprintln!("bench: {}, round {round} of {ROUNDS}", kind.name);
        for (budget, cost) in BUDGETS.iter().zip(&mut costs) {
            let injector = trace(bench, server.pid(), &format!("{budget}%"))?;
            load(SETTLING)?;
            let with = load(WITH)?;
            let summary = summary(injector)?;
            let after = load(WITHOUT)?;
            let per_second = f64::midpoint(before.per_second, after.per_second);
            let ratio = f64::midpoint(before.ratio, after.ratio);
            before = after;
            answers.push(per_second);
            cost.fewer.push((1. - with.per_second / per_second) * 100.);
            cost.cpu.push((1. - ratio / with.ratio) * with.cpus * 100.);
            cost.said.push(number(&summary, "/cost")? * 100.);
            let own = number(&summary, "/own_ns")? / number(&summary, "/elapsed_ns")?;
            cost.own.push(own * 100.);
        }
    }
    let answers = Mean::of(&answers);
    for (budget, cost) in BUDGETS.iter().zip(&costs) {
        let [fewer, cpu, said, own] =
            [&cost.fewer, &cost.cpu, &cost.said, &cost.own].map(|values| Mean::of(values));
        let text = |it: Mean| format!("{:.1} % (±{:.1})", it.mean, it.error);
        section.row([
            kind.name.clone(),
            format!("{budget} %"),
            format!("{:.0}/s", answers.mean),
            text(cpu),
            format!("{:.1} %", said.mean),
            text(fewer),
            format!("{:.1} %", own.mean),
        ]);
        section.goals.push(Goal {
            wanted: format!(
                "{}: `--budget {budget}%` costs at most {budget} % of a CPU (or within the error)",
                kind.name
            ),
            measured: text(cpu),
            verdict: Verdict::of(cpu.mean <= budget + cpu.error),
        });
    }
    Ok(())
}

fn load(bench: &Bench, kind: &GoServer, server: &Server, seconds: u32) -> Result<Run> {
    let arguments = format!(
        "http {} {CONNECTIONS} {seconds} {}",
        server.port,
        kind.request()?
    );
    let mut clients = Program::start(bench.programs.command("load", &arguments))?;
    let before = processes::cpu_ns(server.pid())?;
    clients.go()?;
    let said = clients.finish()?;
    let used = processes::cpu_ns(server.pid())? - before;
    let seconds = f64::from(seconds);
    Ok(Run {
        per_second: number(&said, "/answers")? / seconds,
        cpus: used / 1e9 / seconds,
        ratio: used / number(&said, "/cpu_ns")?,
    })
}
