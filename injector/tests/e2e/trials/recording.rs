//! Runs that are recorded, and reports of the recordings.

use std::fs;

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::on_fast_hosts;
use crate::harness::{Host, Injector, Target, programs::Scratch};

pub fn trials(host: &Host) -> Vec<Trial> {
    vec![
        on_fast_hosts(host, "recording_is_the_run", whole),
        on_fast_hosts(host, "recording_survives_kill_9_and_damage", cut_off),
    ]
}

fn whole() {
    let scratch = Scratch::new("recording");
    let file = scratch.path("run").display().to_string();
    let mut target = Target::start("order_api", "400 200 0");
    let injector = Injector::start(&format!(
        "--pid {} --delay 1ms --probability 30% --record {file}",
        target.pid
    ));
    target.go();
    target.finish();
    let run = injector.finish();
    run.expect_code(0);
    assert!(run.sends.len() >= 400, "{} sends", run.sends.len());

    let report = Injector::run(&format!("report {file} --output json"));
    report.expect_code(0);
    assert_eq!(report.stderr, "");
    assert_eq!(format!("{:?}", report.sends), format!("{:?}", run.sends));
    assert_eq!(report.summary(), run.summary());

    let other = Target::start("order_api", "1 100 0");
    let again = Injector::run(&format!("--pid {} --record {file}", other.pid));
    again.expect_code(2);
    again.expect_words("cannot record in");
    again.expect_words("exists");
}

fn cut_off() {
    let scratch = Scratch::new("recording-cut");
    let path = scratch.path("run");
    let file = path.display().to_string();
    let mut target = Target::start("order_api", "1 100 1000 --forever");
    let injector = Injector::start(&format!("--pid {} --record {file}", target.pid));
    target.go();
    injector.await_sends(50);
    // What was there a second ago is in the file.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    injector.signal(Signal::SIGKILL);
    let killed = injector.finish();
    let report = Injector::run(&format!("report {file} --output json"));
    report.expect_code(0);
    assert!(report.sends.len() >= 50, "{} sends", report.sends.len());
    assert!(report.sends.len() <= killed.sends.len() + 4096);
    report.expect_ending("no end");

    let mut bytes = fs::read(&path).expect("the recording");
    let end = bytes.len();
    bytes[end - 20] ^= 1;
    fs::write(&path, &bytes).expect("the recording");
    let damaged = Injector::run(&format!("report {file} --output json"));
    damaged.expect_code(0);
    damaged.expect_words("damaged or cut off");
    assert!(damaged.sends.len() < report.sends.len());

    fs::write(&path, "no recording").expect("the file");
    let refused = Injector::run(&format!("report {file}"));
    refused.expect_code(2);
    refused.expect_words("not a recording");
}
