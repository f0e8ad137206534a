//! `--hold-on-fatal`: a process that is stopped at its fatal error goes on,
//! whoever is killed meanwhile, and dies of it as it would have.

use std::{fs, os::unix::process::ExitStatusExt as _, time::Duration};

use libtest_mimic::Trial;
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

use super::{needs, on_fast_hosts};
use crate::harness::{
    Host, Injector, Target, eventually,
    go::{self, Toolchain},
};

/// What the watchdog is called.
const WATCHDOG: &str = "hold-guard";
/// A hold that is waited for.
const SHORT: Duration = Duration::from_secs(2);
/// A hold that somebody is killed in.
const LONG: Duration = Duration::from_secs(40);
/// In an emulated machine that has other work too; long before the end of a
/// [`LONG`] hold.
const SOON: Duration = Duration::from_secs(20);
/// For how long a target tries to have its accident: two goroutines of an emulated
/// machine can miss each other for long.
const TRIES: Duration = Duration::from_mins(3);
/// How the runtime ends a program (runtime/panic.go, `exit(2)`).
const EXIT: i32 = 2;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let Some(toolchain) = go::chosen().pop() else {
        println!("skip hold: no Go toolchain is in the cache");
        return Vec::new();
    };
    let trial = |name: &str, run: fn(&Toolchain)| {
        let toolchain = toolchain.clone();
        needs(name, host.has_uprobe_multi(), move || run(&toolchain))
    };
    let hung = toolchain.clone();
    vec![
        trial("hold_ends_by_itself", by_itself),
        trial("hold_ends_with_the_daemon", without_daemon),
        trial("hold_ends_with_the_watchdog", without_watchdog),
        on_fast_hosts(host, "hold_ends_when_the_daemon_hangs", move || {
            hung_daemon(&hung);
        }),
        trial("hold_is_refused_where_it_is_not_sure", refusals),
    ]
}

/// A target that will have an accident, and an injector that will hold it.
fn start(toolchain: &Toolchain, hold: Duration) -> (Target, Injector) {
    let target = Target::start_with(
        &toolchain.program("collide"),
        &format!("writes {}", TRIES.as_secs()),
        &[("GOTRACEBACK", "none")],
    );
    let injector = Injector::start_with(&format!(
        "maps --pid {} --budget none --output json --hold-on-fatal {}ms",
        target.pid,
        hold.as_millis()
    ));
    (target, injector)
}

/// Until it is stopped.
fn await_hold(target: &mut Target) {
    target.go();
    let mut held = false;
    eventually(TRIES + SOON, || {
        held = state(target.pid) == Some('T');
        held || !target.is_running()
    });
    assert!(
        held,
        "it was not stopped; it is running: {}",
        target.is_running()
    );
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The watchdog that this injector has started.
fn watchdog(injector: &Injector) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", injector.pid());
    let children = fs::read_to_string(path).expect("the children of injector");
    let mut children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    let named = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == WATCHDOG)
    };
    let pid = children.find(named).expect("a watchdog");
    Pid::from_raw(pid as i32)
}

/// It went on, and died of its fatal error.
#[track_caller]
fn expect_end(target: &mut Target) {
    assert!(eventually(SOON, || !target.is_running()), "it does not end");
    let status = target.status();
    assert_eq!((status.code(), status.signal()), (Some(EXIT), None));
}

fn by_itself(toolchain: &Toolchain) {
    let (mut target, injector) = start(toolchain, SHORT);
    await_hold(&mut target);
    // Stopped, it can be looked into.
    assert!(fs::read_dir(format!("/proc/{}/task", target.pid)).is_ok());
    expect_end(&mut target);
    let ended = injector.finish();
    ended.expect_code(0);
    // The others that come to the same error do not stop it again; they can be
    // told of first.
    let held: Vec<_> = ended.maps.iter().filter_map(|it| it.get("held")).collect();
    let [held] = held[..] else {
        panic!("held: {held:?}, of {:?}", ended.maps);
    };
    assert_eq!(held["for_ns"], SHORT.as_nanos() as u64);
    let threads = held["threads"].as_array().expect("its threads");
    assert!(!threads.is_empty());
}

fn without_daemon(toolchain: &Toolchain) {
    let (mut target, injector) = start(toolchain, LONG);
    let watchdog = watchdog(&injector);
    await_hold(&mut target);
    injector.signal(Signal::SIGKILL);
    expect_end(&mut target);
    assert!(eventually(SOON, || kill(watchdog, None).is_err()));
}

fn without_watchdog(toolchain: &Toolchain) {
    let (mut target, injector) = start(toolchain, LONG);
    let watchdog = watchdog(&injector);
    await_hold(&mut target);
    kill(watchdog, Signal::SIGKILL).expect("a watchdog");
    expect_end(&mut target);
    injector.finish().expect_words("so the process goes on now");
}

/// The watchdog does not need the daemon to know that the time is over.
fn hung_daemon(toolchain: &Toolchain) {
    let (mut target, injector) = start(toolchain, SHORT);
    injector.signal(Signal::SIGSTOP);
    await_hold(&mut target);
    expect_end(&mut target);
    injector.signal(Signal::SIGCONT);
    injector.finish().expect_code(0);
}

fn refusals(toolchain: &Toolchain) {
    let target = Target::start(&toolchain.program("collide"), "locked");
    let pid = Pid::from_raw(target.pid as i32);
    let refused = |words: &str| {
        let ended = Injector::run(&format!(
            "maps --pid {pid} --budget none --hold-on-fatal 1s"
        ));
        ended.expect_code(2);
        ended.expect_words("--hold-on-fatal is refused");
        ended.expect_words(words);
    };
    target.signal(Signal::SIGSTOP);
    assert!(eventually(SOON, || state(target.pid) == Some('T')));
    refused("stopped already");
    target.signal(Signal::SIGCONT);
    ptrace::seize(pid, ptrace::Options::empty()).expect("to trace a child");
    refused("traces it already");
    // Only a stopped process can be let go.
    kill(pid, Signal::SIGSTOP).expect("a target");
    waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).expect("a stopped target");
    ptrace::detach(pid, None).expect("to let it go");
    target.signal(Signal::SIGCONT);
    let ended = Injector::run(&format!(
        "maps --pid {pid} --budget none --hold-on-fatal 2m"
    ));
    ended.expect_words("it takes 1ns to 1m");
}
