//! Many sends that block at once: a kretprobe follows a limited number of
//! calls, and what it misses must be counted.

use libtest_mimic::Trial;

use super::each_hook;
use crate::harness::{Hook, Host, Injector, Target};

const THREADS: usize = 300;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut trials = each_hook(host, "blocked_senders", blocked);
    trials.extend(each_hook(host, "sends_in_flight_are_counted", in_flight));
    trials
}

/// What has no record when the run ends is not silently lost.
fn in_flight(hook: Hook) {
    const THREADS: u64 = 5;
    let mut target = Target::start("blocked_senders", &format!("unix {THREADS}"));
    let injector = Injector::start(&format!("--hook {hook} --pid {}", target.pid));
    target.go();
    let line = target.line();
    assert!(line.starts_with("blocked "), "{line}");
    let ended = injector.stop();
    ended.expect_code(0);
    let number = |name: &str| ended.summary()[name].as_u64().expect("a number");
    let (in_flight, skipped) = (number("in_flight"), number("programs_skipped"));
    assert!(
        in_flight <= THREADS && in_flight + skipped >= THREADS,
        "{in_flight} in flight, {skipped} programs skipped"
    );
    assert_eq!(ended.counter("returns_missed"), 0);
    target.run();
}

fn blocked(hook: Hook) {
    let mut target = Target::start("blocked_senders", &format!("unix {THREADS}"));
    let injector = Injector::start(&format!("--hook {hook} --pid {}", target.pid));
    target.go();
    let line = target.line();
    assert!(line.starts_with("blocked "), "{line}");
    let target = target.run();
    let ended = injector.finish();
    ended.expect_code(0);
    let (seen, missed) = (ended.counter("seen"), ended.counter("returns_missed"));
    let summary = ended.summary();
    let number = |name: &str| summary[name].as_u64().expect("a number");
    // What a preemptible kernel leaves out is at least known.
    let skipped = number("programs_skipped");
    assert!(
        seen + skipped >= THREADS as u64,
        "{target} {seen} + {skipped}"
    );
    assert_eq!(ended.counter("records_dropped"), 0);
    let complete = ended.sends.len() as u64;
    assert!(
        complete + missed + skipped >= THREADS as u64,
        "{complete} records, {missed} returns missed, {skipped} programs skipped"
    );
    if hook != Hook::Kprobe {
        assert!(missed <= skipped, "{missed} of {skipped}");
    }
}
