//! `injector maps` on Go programs that make it hard: they end, become another
//! program, lose their file, live in a container, or have more goroutines and
//! deeper stacks than most.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::each_toolchain;
use crate::harness::{
    Ended, Host, Injector, Target,
    go::Toolchain,
    process,
    programs::{self, Scratch},
};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    each_toolchain(
        host,
        "maps_faults",
        [
            ("maps_sees_each_operation_once", each_once),
            ("maps_traces_two_programs_at_once", two_at_once),
            ("maps_follows_ten_thousand_goroutines", many),
            ("maps_survives_growing_stacks", deep),
            ("maps_survives_ends_while_it_attaches", ends),
            ("maps_survives_exec", exec),
            ("maps_reads_the_image_that_runs", replaced),
            ("maps_sees_into_containers", container),
        ],
    )
}

fn start(toolchain: &Toolchain, arguments: &str) -> Target {
    Target::start(&toolchain.program("busy"), arguments)
}

/// With everything traced.
fn trace(pid: u32) -> Injector {
    Injector::start_with(&format!("maps --pid {pid} --budget none --output json"))
}

#[track_caller]
fn summary(ended: &Ended) -> &Value {
    ended.expect_code(0);
    let summary = ended.maps.last().expect("a summary");
    assert_eq!(summary["type"], "maps_summary");
    assert_eq!(summary["stacks"]["wrong"], 0, "{summary}");
    summary
}

fn hits(summary: &Value, name: &str) -> u64 {
    let operations = summary["operations"].as_array().expect("operations");
    let one = operations.iter().find(|one| one["operation"] == name);
    one.and_then(|one| one["hits"].as_u64()).unwrap_or(0)
}

/// What a target counted, all of it right.
#[track_caller]
fn counted(truth: &Value, name: &str) -> u64 {
    assert_eq!(truth["right"], true, "{truth}");
    truth[name].as_u64().expect("a number")
}

/// A program's own operations and few of the runtime's and the library's.
#[track_caller]
fn assert_near(seen: u64, counted: u64) {
    assert!(
        (counted..counted + 200).contains(&seen),
        "{seen} seen, {counted} counted"
    );
}

/// Of two processes of one program, one is traced: the other's operations are
/// not among those that are seen.
fn each_once(toolchain: &Toolchain) {
    let traced = start(toolchain, "fixed 5000");
    let other = start(toolchain, "fixed 100000");
    let injector = trace(traced.pid);
    let other = thread::spawn(|| other.run());
    thread::sleep(Duration::from_millis(20));
    let truth = traced.run();
    let ended = injector.finish();
    counted(&other.join().expect("the other"), "assigns");
    let summary = summary(&ended);
    assert_near(hits(summary, "assign"), counted(&truth, "assigns"));
    assert_near(hits(summary, "access"), counted(&truth, "reads"));
}

/// Two injectors, each with a process of its own, of one program file: each sees
/// what its process does and nothing else, and one may end before the other.
fn two_at_once(toolchain: &Toolchain) {
    let targets = ["fixed 5000", "fixed 20000"].map(|arguments| start(toolchain, arguments));
    let injectors = targets.each_ref().map(|target| trace(target.pid));
    let runs = targets.map(|target| thread::spawn(|| target.run()));
    for (run, injector) in runs.into_iter().zip(injectors) {
        let truth = run.join().expect("a target");
        let ended = injector.finish();
        let summary = summary(&ended);
        assert_near(hits(summary, "assign"), counted(&truth, "assigns"));
        assert_near(hits(summary, "access"), counted(&truth, "reads"));
    }
}

fn many(toolchain: &Toolchain) {
    let target = start(toolchain, "many 10000");
    let injector = trace(target.pid);
    let truth = target.run();
    let ended = injector.finish();
    let summary = summary(&ended);
    assert_near(hits(summary, "assign"), counted(&truth, "assigns"));
}

fn deep(toolchain: &Toolchain) {
    let target = start(toolchain, "deep 20");
    let injector = trace(target.pid);
    let truth = target.run();
    let ended = injector.finish();
    let (seen, counted) = (hits(summary(&ended), "assign"), counted(&truth, "assigns"));
    // Where the probe is on the jump of the stack check, it is hit again each
    // time that the stack had to grow.
    assert!(
        (counted..counted + 2000).contains(&seen),
        "{seen} seen, {counted} counted"
    );
}

/// Ends at any moment while probes are put in.
fn ends(toolchain: &Toolchain) {
    let mut attached = 0;
    for after in [0, 2, 5, 10, 15, 20, 30, 40, 60, 80] {
        let mut target = start(toolchain, "fixed 10");
        let injector = Injector::spawn(&format!("maps --pid {} --output json", target.pid));
        thread::sleep(Duration::from_millis(after * 4));
        target.go();
        let ended = injector.finish();
        match ended.code {
            Some(0) => attached += 1,
            // It was gone first.
            Some(2) => {
                let said = ["there is no process", "has ended", "no program file"];
                assert!(
                    said.iter().any(|words| ended.stderr.contains(words)),
                    "{}",
                    ended.stderr
                );
            }
            code => panic!("{code:?}: {}", ended.stderr),
        }
        assert_eq!(target.finish()["right"], true);
    }
    println!("attached to {attached} of 10 before they ended");
}

/// Executes itself anew while probes are put in and while they are there.
fn exec(toolchain: &Toolchain) {
    let mut target = start(toolchain, "exec 40");
    target.go();
    for _ in 0..3 {
        let injector = Injector::spawn(&format!(
            "maps --pid {} --budget none --duration 200ms --output json",
            target.pid
        ));
        let ended = injector.finish();
        assert!(
            matches!(ended.code, Some(0 | 2)),
            "{:?}: {}",
            ended.code,
            ended.stderr
        );
    }
    assert_eq!(target.finish()["right"], true);
}

/// Another file is at its path by now.
fn replaced(toolchain: &Toolchain) {
    let scratch = Scratch::new("maps-replaced");
    let copy = scratch.path("program");
    fs::copy(programs::path(&toolchain.program("busy")), &copy).expect("a copy");
    let mut child = spawn(Command::new(&copy).args(["fixed", "1000"]));
    await_ready(&mut child);
    fs::remove_file(&copy).expect("its file");
    fs::write(&copy, "something else").expect("another file in its place");
    let injector = trace(child.id());
    let truth = go(child);
    let ended = injector.finish();
    let summary = summary(&ended);
    assert_near(hits(summary, "assign"), counted(&truth, "assigns"));
}

/// In mount, process, user and network namespaces of its own, with its file on
/// a file system that is only there.
fn container(toolchain: &Toolchain) {
    let program = programs::path(&toolchain.program("busy"));
    let scratch = Scratch::new("maps-container");
    let own = scratch.path("own");
    fs::create_dir_all(&own).expect("a directory");
    let script = "mount -t tmpfs none \"$1\" && cp \"$0\" \"$1/busy\" && \
                  exec \"$1/busy\" fixed 1000";
    let mut child = spawn(
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "--pid", "--net"])
            .args(["--fork", "--kill-child", "sh", "-c", script])
            .args([&program, &own]),
    );
    await_ready(&mut child);
    assert!(!own.join("busy").exists(), "it is seen from here");
    let pid = process::child_of(child.id(), "busy").expect("the program in the container");
    let injector = trace(pid);
    let truth = go(child);
    let ended = injector.finish();
    let summary = summary(&ended);
    assert_near(hits(summary, "assign"), counted(&truth, "assigns"));
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a Go program")
}

/// Reads its first line and nothing behind it, which it writes only later.
fn await_ready(child: &mut Child) {
    let stdout = child.stdout.as_mut().expect("its stdout");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert!(line.starts_with("ready "), "{line}");
}

/// Lets it run to its end; what it tells.
fn go(mut child: Child) -> Value {
    let mut stdin = child.stdin.take().expect("its stdin");
    writeln!(stdin, "go").expect("a program that listens");
    let output = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
