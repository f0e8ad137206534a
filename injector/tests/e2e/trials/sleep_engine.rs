//! The sleep engine at work: delayed threads use no CPU time, delays have any
//! length, many sleep at once, and the end of a run lets all of them go.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit};

use super::{needs, on_fast_hosts};
use crate::harness::{
    Host, Injector, MS, Senders, Target, Uprobe, eventually, programs,
    statistics::{fits_binomial, fits_uniform},
};

/// Delays that nobody waits out, and ceilings above all of them together.
pub const LONG: &str = "--delay 10s --max-delay 10s --max-delay-per-second 1000000s";

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let no_sleep = match host.can_sleep() {
        Ok(()) => Err("threads can sleep here".to_owned()),
        Err(_) => Ok(()),
    };
    let can_fail = host.can_fail_sends().is_ok();
    vec![
        sleeps(host, "delayed_threads_use_no_cpu_time", no_cpu_time),
        sleeps(host, "sleep_delivers_what_was_asked", move || whole(host)),
        sleeps(host, "the_end_of_a_run_wakes_all", move || run_ends(host)),
        needs(
            "ten_thousand_sleep_at_once",
            host.can_sleep()
                .and_then(|()| host.scale(Ok(()), Err("too little memory".to_owned())))
                .and_then(|()| has_room()),
            ten_thousand,
        ),
        on_fast_hosts(host, "spin_on_demand", spin),
        sleeps(host, "other_uprobes_are_detached", move || {
            detach(can_fail);
        }),
        needs(
            "commands_sleep",
            host.can_sleep().or(host.can_fail_sends()),
            command,
        ),
        needs("sleep_is_refused_with_a_reason", no_sleep, refused),
    ]
}

/// A trial of the sleep engine.
pub fn sleeps(host: &Host, name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    needs(name, host.can_sleep(), run)
}

fn no_cpu_time() {
    const DELAY: u64 = 200 * MS;
    let mut senders = Senders::start(8, Duration::from_millis(1), "");
    let injector = Injector::start(&format!("--pid {} --delay 200ms", senders.pid()));
    assert!(injector.has_said("engine sleep"), "auto is not sleep");
    senders.go();
    injector.await_sends(80);
    let report = senders.report();
    let ended = injector.stop();
    ended.expect_code(0);
    assert!(report.min_ns >= DELAY, "{report:?}");
    assert!(report.sends >= 80, "{report:?}");
    let slept = report.sends * DELAY;
    println!(
        "{} sends slept {} ms for {} ms of CPU time",
        report.sends,
        slept / MS,
        report.cpu_ns / MS
    );
    assert!(report.cpu_ns < slept / 20, "{report:?}");
    let (delivered, spun) = (ended.counter("delivered_ns"), ended.counter("spin_ns"));
    assert!(spun < delivered / 50, "{spun} of {delivered} ns were spun");
    assert_eq!(ended.counter("capped"), 0);
    assert_eq!(ended.counter("sleepers_full"), 0);
    assert_eq!(ended.counter("sleeps_refused"), 0);
}

/// The seed case with its real delays, which a spinning engine would cap.
fn whole(host: &Host) {
    let sends = host.scale(100, 60);
    let gray = Target::start_with("order-api", &format!("{sends} 100 50"), &[("env", "gray")]);
    let injector = Injector::start(
        "--comm order-api --env env=gray --probability 15% --delay 0..1200ms \
         --threshold 800ms --on-timeout signal:SIGUSR2 --seed 42",
    );
    assert!(injector.has_said("engine sleep"), "auto is not sleep");
    let gray = gray.run();
    injector.await_sends(sends);
    let ended = injector.stop();
    ended.expect_code(0);
    assert_eq!(gray["ok"], sends);
    assert_eq!(ended.sends.len(), sends);

    let asked: Vec<u64> = ended.delivered().filter_map(|send| send.asked_ns).collect();
    assert!(fits_binomial(asked.len(), sends, 0.15), "{asked:?}");
    assert!(fits_uniform(&asked, 1200 * MS), "not uniform: {asked:?}");
    let flagged = ended.sends.iter().filter(|send| send.flagged).count();
    assert!(flagged > 0, "{asked:?}");
    assert_eq!(gray["sigusr2"], flagged);
    let mut latest = 0;
    for send in ended.delivered() {
        assert!(!send.capped && !send.shortened, "{send:?}");
        assert!(send.delivered_ns >= send.asked_ns, "{send:?}");
        let late = send.delivered_ns.unwrap_or(0) - send.asked_ns.unwrap_or(0);
        latest = latest.max(late);
        assert!(late < host.scale(100, 1000) * MS, "{send:?}");
    }
    println!("{} delays, the latest by {} us", asked.len(), latest / 1000);
    assert_eq!(ended.summary()["early_delays"], 0);
}

fn run_ends(host: &Host) {
    let threads = host.scale(1000, 100);
    let mut senders = Senders::start(threads, Duration::from_millis(500), "--slow-ms 5000");
    senders.go();
    let injector = Injector::start(&format!(
        "--pid {} {LONG} --duration {}s",
        senders.pid(),
        host.scale(2, 20)
    ));
    senders.await_asleep(Duration::from_secs(host.scale(2, 20)));
    let start = Instant::now();
    let ended = injector.finish();
    println!("ended within {:?}", start.elapsed());
    assert!(
        start.elapsed() < Duration::from_secs(host.scale(4, 30)),
        "{:?}",
        start.elapsed()
    );
    senders.await_free(Instant::now(), Duration::from_secs(1));
    senders.reset();
    let all = eventually(Duration::from_secs(20), || {
        senders.report().sends >= threads as u64
    });
    let report = senders.report();
    assert!(all && report.slow == 0, "{report:?}");

    ended.expect_code(0);
    assert!(ended.counter("shortened") >= threads as u64);
    let shortened = ended.sends.iter().filter(|send| send.shortened).count();
    assert_eq!(shortened as u64, ended.counter("shortened"));
    assert_eq!(
        ended.sends.len() as u64 + ended.counter("returns_missed"),
        ended.counter("seen"),
        "{}",
        ended.summary()["counters"]
    );
}

const CROWD: usize = 10_000;

/// Whether this machine allows so many threads.
fn has_room() -> Result<(), String> {
    let number = |path: &str| -> Option<u64> {
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse().ok()
    };
    let needed = CROWD as u64 * 2;
    for path in ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"] {
        if number(path).is_some_and(|limit| limit < needed) {
            return Err(format!("{path} is less than {needed}"));
        }
    }
    match getrlimit(Resource::RLIMIT_NPROC) {
        Ok((_, hard)) if hard < needed => Err(format!("RLIMIT_NPROC is less than {needed}")),
        _ => Ok(()),
    }
}

fn ten_thousand() {
    let mut senders = Senders::start(CROWD, Duration::from_secs(3), "--slow-ms 5000");
    let injector = Injector::start(&format!(
        "--pid {} --delay 60s --max-delay 60s --max-delay-per-second 1000000s",
        senders.pid()
    ));
    let start = Instant::now();
    senders.go();
    let report = senders.await_asleep(Duration::from_secs(40));
    println!(
        "{} threads asleep after {:?}, {} ms of CPU time",
        report.inside,
        start.elapsed(),
        report.cpu_ns / MS
    );
    let stop = Instant::now();
    let ended = injector.stop();
    println!("ended within {:?}", stop.elapsed());
    senders.await_free(Instant::now(), Duration::from_secs(5));
    ended.expect_code(0);
    assert_eq!(ended.counter("sleepers_full"), 0);
    assert_eq!(ended.counter("sleeps_refused"), 0);
    assert_eq!(ended.counter("shortened"), CROWD as u64);
}

fn spin() {
    let target = Target::start("order_api", "50 100 0");
    let injector = Injector::start(&format!(
        "--pid {} --delay 20ms --max-spin 5ms --engine spin",
        target.pid
    ));
    assert!(injector.has_said("engine spin"));
    assert_eq!(target.run()["ok"], 50);
    let ended = injector.finish();
    ended.expect_code(0);
    assert_eq!(ended.counter("capped"), 50);
    // The delay begins with the send, the spinning a little later.
    assert!(ended.counter("delivered_ns") >= 50 * 5 * MS);
    assert!(ended.counter("spin_ns") >= 50 * 4 * MS);
}

fn refused() {
    let target = Target::start("order_api", "5 100 0");
    let wanted = format!("--pid {} --delay 1ms", target.pid);
    let ended = Injector::run(&format!("{wanted} --engine sleep"));
    ended.expect_code(3);
    for words in ["the sleep engine does not work here: ", "--engine spin"] {
        ended.expect_words(words);
    }
    // Without being told to, it does what it can, and says so.
    let injector = Injector::start(&wanted);
    assert!(injector.has_said("engine sleep is not used: "));
    assert!(injector.has_said("engine spin"));
    assert_eq!(target.run()["ok"], 5);
    let ended = injector.finish();
    ended.expect_code(0);
    assert_eq!(ended.counter("delayed"), 5);
}

/// A uprobe of another tool waits, while it is detached, for threads that sleep
/// in a BPF program: for a slice of task work, for the whole delay in the LSM hook.
fn detach(in_lsm: bool) {
    const DELAY: Duration = Duration::from_secs(3);
    let mut senders = Senders::start(4, Duration::from_secs(1), "");
    let injector = Injector::start(&format!("--pid {} --delay 3s", senders.pid()));
    let uprobe = Uprobe::attach("sleeper");
    senders.go();
    senders.await_asleep(Duration::from_secs(20));
    let time = uprobe.detach();
    injector.stop().expect_code(0);
    println!("a uprobe was detached in {time:?} while threads slept for {DELAY:?}");
    if !in_lsm {
        assert!(time < DELAY / 2, "{time:?}: more than slices");
    }
}

/// What injector starts can sleep from Linux 6.1 on: there the holder is an
/// ancestor of it, found through more than one generation.
fn command() {
    const DELAY_MS: u64 = 100;
    let sends = programs::path("sends");
    let script = format!("{} udp4 sendto 5 64 > /dev/null; exit 7", sends.display());
    let delay = format!("{DELAY_MS}ms");
    let ended = Injector::run_words(&[
        "--output", "json", "--all", "--engine", "sleep", "--delay", &delay, "--", "sh", "-c",
        &script,
    ]);
    ended.expect_code(7);
    let slept = ended
        .delivered()
        .filter(|send| send.delivered_ns >= Some(DELAY_MS * MS) && !send.capped);
    assert_eq!(slept.count(), 5, "{:?}", ended.sends);
}
