//! What signals and debuggers do to a thread that is asleep in a send.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::{
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::sleep_engine::sleeps;
use crate::harness::{Host, Injector, MS, Senders, eventually, process};

const NO_GAP: Duration = Duration::from_millis(1);

pub fn trials(host: &'static Host) -> Vec<Trial> {
    vec![
        sleeps(host, "caught_signals_do_not_shorten_a_delay", move || {
            caught(host);
        }),
        sleeps(
            host,
            "a_storm_of_signals_does_not_shorten_a_delay",
            move || {
                storm(host);
            },
        ),
        sleeps(host, "sleepers_can_be_ended", move || ended(host)),
        sleeps(host, "sleepers_can_be_stopped", move || stopped(host)),
        sleeps(host, "sleepers_can_be_debugged", move || debugged(host)),
    ]
}

fn caught(host: &Host) {
    let mut senders = Senders::start(4, NO_GAP, "--handle USR2");
    let injector = Injector::start(&format!("--pid {} --delay 700ms", senders.pid()));
    senders.go();
    senders.await_asleep(Duration::from_secs(10));
    // The main thread blocks the signal: one of the sleepers gets it.
    for _ in 0..host.scale(100, 20) {
        senders.target.signal(Signal::SIGUSR2);
        std::thread::sleep(Duration::from_millis(host.scale(20, 100)));
    }
    not_shortened(&mut senders, injector);
}

fn storm(host: &Host) {
    let pause = host.scale(5_000, 50_000);
    let mut senders = Senders::start(4, NO_GAP, &format!("--handle URG --storm-us {pause}"));
    let injector = Injector::start(&format!("--pid {} --delay 700ms", senders.pid()));
    senders.go();
    std::thread::sleep(Duration::from_secs(host.scale(2, 5)));
    not_shortened(&mut senders, injector);
}

fn not_shortened(senders: &mut Senders, injector: Injector) {
    injector.await_sends(8);
    let report = senders.report();
    println!(
        "{} signals, {} sends, the shortest took {} us",
        report.signals,
        report.sends,
        report.min_ns / 1000
    );
    assert!(report.signals > 0 && report.sends >= 8, "{report:?}");
    assert!(report.min_ns >= 700 * MS, "{report:?}");
    assert_eq!(report.failed, 0, "{report:?}");
    let sends = injector.sends();
    injector.stop().expect_code(0);
    assert!(!sends.iter().any(|send| send.shortened));
}

/// Goal natively: 20 ms.
fn ended(host: &Host) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut senders = Senders::start(20, NO_GAP, "");
        let injector = Injector::start(&format!(
            "--pid {} --delay 5s --max-delay 5s --max-delay-per-second 1000s",
            senders.pid()
        ));
        senders.go();
        senders.await_asleep(Duration::from_secs(10));
        let start = Instant::now();
        senders.target.signal(signal);
        while senders.target.is_running() {
            let time = start.elapsed();
            assert!(
                time < Duration::from_millis(host.scale(500, 4000)),
                "{signal} has not ended it after {time:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{signal} ended 20 sleepers within {:?}", start.elapsed());
        // Its only target is gone.
        let ended = injector.finish();
        ended.expect_code(0);
        // A preemptible kernel may pass a program of ours by.
        let skipped = ended.summary()["programs_skipped"].as_u64().unwrap_or(0);
        let missed = ended.counter("returns_missed");
        assert!(missed <= skipped, "{missed} missed, {skipped} skipped");
        assert_eq!(ended.counter("shortened"), 20);
        assert_eq!(ended.sends.len() as u64, 20 - missed);
        assert!(ended.sends.iter().all(|send| send.shortened));
    }
}

fn stopped(host: &Host) {
    const THREADS: usize = 20;
    let mut senders = Senders::start(THREADS, NO_GAP, "");
    let pid = senders.pid();
    let injector = Injector::start(&format!(
        "--pid {pid} --delay 5s --max-delay 5s --max-delay-per-second 1000s"
    ));
    senders.go();
    senders.await_asleep(Duration::from_secs(10));
    let start = Instant::now();
    senders.target.signal(Signal::SIGSTOP);
    while !process::states(pid).chars().all(|state| state == 'T') {
        assert!(
            start.elapsed() < Duration::from_millis(host.scale(500, 4000)),
            "not all stop: {}",
            process::states(pid)
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{THREADS} sleepers stopped within {:?}", start.elapsed());
    senders.target.signal(Signal::SIGCONT);
    // Each goes on to its next send, and sleeps there.
    let slept_again = eventually(Duration::from_secs(10), || {
        let report = senders.report();
        report.sends >= THREADS as u64 && report.inside == THREADS
    });
    assert!(slept_again, "{:?}", senders.report());
    assert_eq!(senders.report().failed, 0);
    injector.await_sends(THREADS);
    let sends = injector.sends();
    injector.stop().expect_code(0);
    assert_eq!(sends.len(), THREADS);
    assert!(sends.iter().all(|send| send.shortened), "{sends:?}");
}

fn debugged(host: &Host) {
    let mut senders = Senders::start(3, NO_GAP, "");
    let pid = senders.pid();
    let injector = Injector::start(&format!(
        "--pid {pid} --delay 5s --max-delay 5s --max-delay-per-second 1000s"
    ));
    senders.go();
    senders.await_asleep(Duration::from_secs(10));
    let thread = process::threads(pid)
        .into_iter()
        .find(|thread| *thread != pid)
        .expect("a sending thread");
    let thread = Pid::from_raw(thread as i32);
    let start = Instant::now();
    ptrace::seize(thread, ptrace::Options::empty()).expect("PTRACE_SEIZE");
    ptrace::interrupt(thread).expect("PTRACE_INTERRUPT");
    let stops = eventually(Duration::from_secs(host.scale(1, 5)), || {
        !matches!(
            waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive)
        )
    });
    assert!(stops, "a debugger waits for the end of the delay");
    println!("a debugger had a sleeper within {:?}", start.elapsed());
    assert_eq!(senders.report().inside, 3, "the others sleep on");
    ptrace::detach(thread, None).expect("PTRACE_DETACH");
    injector.await_sends(1);
    let sends = injector.sends();
    injector.stop().expect_code(0);
    assert_eq!(sends.len(), 1, "{sends:?}");
    assert!(sends[0].shortened);
}
