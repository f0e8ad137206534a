//! How runs end, and which exit code says so.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{anywhere, on_fast_hosts};
use crate::harness::{
    Host, Injector, MS, Target,
    programs::{self, INJECTOR},
};

pub fn trials(host: &Host) -> Vec<Trial> {
    vec![
        anywhere("a_command_is_followed", command),
        on_fast_hosts(host, "a_command_s_exit_code_is_returned", exit_codes),
        on_fast_hosts(host, "ends_after_its_duration", duration),
        on_fast_hosts(host, "ends_when_asked_to", signals),
        on_fast_hosts(host, "closed_stdout_is_a_clean_end", closed_output),
        on_fast_hosts(host, "total_delay_ends_the_run", total_delay),
    ]
}

fn command() {
    let sends = programs::path("sends").display().to_string();
    let ended = Injector::run(&format!(
        "--delay 100us --output json --all -- {sends} tcp4 send 20 100"
    ));
    ended.expect_code(0);
    assert_eq!(ended.delivered().count(), 20, "{}", ended.stderr);
    assert!(ended.sends.iter().all(|send| send.comm == "sends"));
}

fn exit_codes() {
    for (words, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -9 $$"], 128 + 9),
        (&["/no/such/command"], 127),
    ] {
        let mut all = vec!["--output", "json", "--"];
        all.extend(words);
        let ended = Injector::run_words(&all);
        assert_eq!(ended.code, Some(code), "{words:?}: {}", ended.stderr);
    }
}

fn duration() {
    let sleeper = Target::start("sleeper", "100");
    let ended = Injector::run(&format!(
        "--pid {} --delay 1ms --duration 300ms --output json",
        sleeper.pid
    ));
    ended.expect_code(0);
    ended.expect_ending("--duration");
    assert!(ended.summary()["elapsed_ns"].as_u64() >= Some(300 * MS));
}

fn signals() {
    let sleeper = Target::start("sleeper", "300");
    for (signal, name) in [
        (Signal::SIGINT, "SIGINT"),
        (Signal::SIGTERM, "SIGTERM"),
        (Signal::SIGHUP, "SIGHUP"),
    ] {
        let injector = Injector::start(&format!("--pid {} --delay 1ms", sleeper.pid));
        injector.signal(signal);
        let ended = injector.finish();
        ended.expect_code(0);
        ended.expect_ending(name);
    }
}

fn closed_output() {
    let mut target = Target::start("order_api", "1 100 1000 --forever");
    let mut child = Command::new(INJECTOR)
        .args([
            "--output",
            "json",
            "--all",
            "--quiet",
            "--pid",
            &target.pid.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("injector itself");
    target.go();
    // Like `head -1`.
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its stdout"))
        .read_line(&mut line)
        .expect("a line");
    assert!(line.contains(r#""type":"send""#), "{line}");
    let status = child.wait().expect("its end");
    assert_eq!(status.code(), Some(0), "{status}");
}

fn total_delay() {
    let mut target = Target::start("order_api", "1 100 1000 --forever");
    let injector = Injector::start(&format!(
        "--pid {} --delay 5ms --max-total-delay 50ms",
        target.pid
    ));
    target.go();
    let ended = injector.finish();
    ended.expect_code(4);
    ended.expect_ending("guard");
    let asked: u64 = ended.delivered().filter_map(|send| send.asked_ns).sum();
    assert!(asked > 0 && asked <= 50 * MS, "{asked} ns");
}
