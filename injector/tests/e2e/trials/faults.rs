//! What goes wrong during a run: targets that end, an injector that dies or
//! hangs, a ring that overflows, processes that come and go.

use std::{collections::BTreeSet, time::Duration};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{anywhere, each_hook, on_fast_hosts};
use crate::harness::{Bpf, Hook, Host, Injector, MS, Target, eventually};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut trials = vec![on_fast_hosts(
        host,
        "target_ends_during_the_run",
        target_ends,
    )];
    trials.extend(each_hook(host, "kill_9_frees_the_targets", killed));
    trials.push(anywhere("stopped_injector_loses_its_lease", move || {
        stopped(host);
    }));
    trials.push(anywhere("ring_overflow_is_counted", move || overflow(host)));
    trials.push(anywhere("forked_children_are_followed", move || {
        forks(host);
    }));
    trials
}

fn target_ends() {
    let target = Target::start("order_api", "10 100 0");
    let injector = Injector::start(&format!("--pid {} --delay 1ms --duration 0", target.pid));
    assert_eq!(target.run()["ok"], 10);
    let ended = injector.finish();
    ended.expect_code(0);
    assert_eq!(ended.delivered().count(), 10);
    assert!(
        ended.summary()["ended"]
            .as_str()
            .is_some_and(|why| why.contains("no target"))
    );
}

fn killed(hook: Hook) {
    const COUNT: usize = 1000;
    let before = Bpf::now();
    let mut target = Target::start("order_api", &format!("{COUNT} 100 0 --times"));
    let injector = Injector::start(&format!("--hook {hook} --pid {} --delay 10ms", target.pid));
    let ours = Bpf::since(&before);
    assert!(ours.is_attached());
    target.go();
    injector.await_sends(5);
    injector.signal(Signal::SIGKILL);
    let ended = injector.finish();
    assert_eq!(ended.code, None);

    let target = target.finish();
    assert_eq!(target["ok"], COUNT);
    let times = target["times_ns"].as_array().expect("times");
    let slow = times
        .iter()
        .filter(|time| time.as_u64() >= Some(10 * MS))
        .count();
    assert!(slow >= 5, "{slow} delayed");
    assert!(slow < COUNT / 2, "{slow} of {COUNT} sends were slow");
    // Programs are freed after a grace period.
    assert!(
        eventually(Duration::from_secs(20), || ours.is_gone()),
        "programs or links stayed behind"
    );
}

fn stopped(host: &Host) {
    let lease = host.scale(500, 2000);
    let mut target = Target::start("order_api", "1 100 5000 --forever");
    let injector = Injector::start(&format!(
        "--pid {} --delay 1ms --lease {lease}ms",
        target.pid
    ));
    target.go();
    injector.await_sends(10);
    injector.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(lease * 3));
    injector.signal(Signal::SIGCONT);
    // What went through in the meantime has no record: nothing is done then.
    std::thread::sleep(Duration::from_millis(200));
    let before = injector.sends().len();
    injector.await_sends(before + 10);
    target.signal(Signal::SIGTERM);
    let target = target.finish();
    let ended = injector.finish();
    ended.expect_code(0);
    assert!(ended.sends.len() >= before + 10, "it does not act again");
    assert_eq!(ended.delivered().count(), ended.sends.len());
    let free = ended.counter("guard_lease");
    assert!(free > 10, "{free} sends went free");
    assert_eq!(target["sends"], free + ended.counter("seen"));
}

fn overflow(host: &Host) {
    // Datagrams that are too long fail at once: the most calls per second.
    let seconds = host.scale("1.5", "4");
    let target = Target::start("firehose", &format!("udp {seconds} 2 --size 65536"));
    let injector = Injector::start_with(&format!("--pid {} --lease 60s --output json", target.pid));
    injector.signal(Signal::SIGSTOP);
    let sends = target.run()["sends"].as_u64().expect("a number of sends");
    injector.signal(Signal::SIGCONT);
    let ended = injector.finish();
    ended.expect_code(0);
    let dropped = ended.counter("records_dropped");
    let received = ended.summary()["sends"]["count"].as_u64().expect("a count");
    assert!(dropped > 0, "{sends} sends fit into the ring");
    assert_eq!(ended.counter("seen"), sends);
    // A preemptible kernel leaves programs out, and says how often.
    let skipped = ended.summary()["programs_skipped"].as_u64();
    let missed = ended.counter("returns_missed");
    assert!(Some(missed) <= skipped, "{missed} of {skipped:?}");
    assert_eq!(
        received + dropped + missed,
        sends,
        "{received} received, {dropped} dropped, {missed} missed"
    );
}

fn forks(host: &Host) {
    let count = host.scale(200, 40);
    // By descent, with and without execution: all of them.
    for extra in host.scale(&["--no-exec", ""][..], &[""]) {
        let target = Target::start("forker", &format!("{count} --pids {extra}"));
        let injector = Injector::start(&format!("--pid {} --children", target.pid));
        let target = target.run();
        let pids: BTreeSet<u32> = target["child_pids"]
            .as_array()
            .expect("pids")
            .iter()
            .filter_map(|pid| pid.as_u64().map(|pid| pid as u32))
            .collect();
        assert_eq!(target["ok"], count);
        injector.await_sends(count);
        let ended = injector.stop();
        let seen: BTreeSet<_> = ended.sends.iter().map(|send| send.pid).collect();
        assert_eq!(seen, pids, "forker {extra}");
    }
    if host.is_slow {
        return;
    }
    // By name: each execution has to be looked at first.
    let target = Target::start("forker", &format!("{count} --linger-us 20000"));
    let injector = Injector::start("--comm forker");
    assert_eq!(target.run()["ok"], count);
    injector.await_sends(count);
    let ended = injector.stop();
    assert!(
        ended.sends.len() * 10 >= count * 9,
        "{} of {count} seen",
        ended.sends.len()
    );
}
