//! Sends that are left alone: in shadow mode, and by the guards in the kernel.

use std::process::Command;

use libtest_mimic::Trial;

use super::{each_hook, needs, on_fast_hosts};
use crate::harness::{Hook, Host, Injector, MS, Target, programs};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut trials = each_hook(host, "shadow_does_nothing", shadow);
    trials.extend(host.hooks().iter().map(|(hook, usable)| {
        let (hook, needed) = (*hook, usable.clone().and_then(|()| has("io_uring")));
        needs(
            &format!("io_uring_is_not_delayed[{hook}]"),
            needed,
            move || io_uring(hook),
        )
    }));
    trials.push(on_fast_hosts(
        host,
        "shadow_signals_nobody_who_is_slow",
        slow_in_shadow,
    ));
    trials.extend(each_hook(host, "shadow_asks_the_guards", shadow_guards));
    trials.push(on_fast_hosts(
        host,
        "blocking_only_skips_non_blocking_sends",
        blocking_only,
    ));
    trials
}

/// A send that was slow by itself is signalled without being chosen, and in
/// shadow mode is not.
fn slow_in_shadow() {
    let target = Target::start("order_api", "20 100 0");
    let injector = Injector::start(&format!(
        "--pid {} --shadow --delay 1ms --probability 0% --threshold 1ns \
         --on-timeout signal:SIGUSR2",
        target.pid
    ));
    assert_eq!(target.run()["sigusr2"], 0);
    let ended = injector.finish();
    ended.expect_code(0);
    let sends = &ended.summary()["sends"];
    assert_eq!(
        (&sends["would_signal"], &sends["signalled"]),
        (&20.into(), &0.into())
    );
}

fn shadow(hook: Hook) {
    let target = Target::start("order_api", "50 100 0");
    let injector = Injector::start(&format!(
        "--hook {hook} --pid {} --shadow --delay 400ms --max-spin 400ms --threshold 300ms \
         --on-timeout signal:SIGUSR2",
        target.pid
    ));
    let target = target.run();
    assert_eq!(target["ok"], 50);
    assert_eq!(target["sigusr2"], 0);
    // It would have been 20 s.
    assert!(target["wall_ns"].as_u64() < Some(10_000 * MS), "{target}");
    let ended = injector.finish();
    ended.expect_code(0);
    let summary = ended.summary();
    assert_eq!(summary["mode"], "shadow");
    assert_eq!(summary["sends"]["would_delay"], 50);
    assert_eq!(summary["sends"]["would_signal"], 50);
    assert_eq!(summary["sends"]["delayed"], 0);
    assert_eq!(ended.counter("shadowed"), 50);
    assert_eq!(ended.counter("delivered_ns"), 0);
    for send in &ended.sends {
        assert_eq!(
            (send.verdict.as_str(), send.asked_ns),
            ("shadowed", Some(400 * MS))
        );
    }
}

/// What a ceiling would have let through is not among what would have been
/// delayed, nor signalled, and the ceiling does not end the run.
fn shadow_guards(hook: Hook) {
    let target = Target::start("order_api", "50 100 0");
    let injector = Injector::start(&format!(
        "--hook {hook} --pid {} --shadow --delay 5ms --max-total-delay 52ms --threshold 3ms \
         --on-timeout signal:SIGUSR2",
        target.pid
    ));
    let target = target.run();
    assert_eq!((&target["ok"], &target["sigusr2"]), (&50.into(), &0.into()));
    let ended = injector.finish();
    ended.expect_code(0);
    let sends = &ended.summary()["sends"];
    for (field, expected) in [
        ("shadowed", 50),
        ("would_delay", 10),
        ("would_signal", 10),
        ("would_suppress", 40),
        ("suppressed", 0),
        ("delayed", 0),
    ] {
        assert_eq!(sends[field], expected, "{field}: {sends}");
    }
    assert_eq!(ended.counter("guard_total_delay"), 40);
    for (index, send) in ended.sends.iter().enumerate() {
        assert_eq!(send.verdict, "shadowed");
        let guard = (index >= 10).then_some("total_delay");
        assert_eq!(send.guard.as_deref(), guard, "{send:?}");
    }
}

/// Whether this kernel has a way to send that `sends` knows.
fn has(call: &str) -> Result<(), String> {
    let output = Command::new(programs::path("sends"))
        .args(["udp4", call, "1", "1"])
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "no {call} here: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

fn io_uring(hook: Hook) {
    let inline = Target::start("sends", "udp4 io_uring 20 100");
    let worker = Target::start("sends", "udp4 io_uring_async 20 100");
    let injector = Injector::start(&format!(
        "--hook {hook} --pid {} --pid {} --delay 100ms --max-spin 100ms",
        inline.pid, worker.pid
    ));
    let pid = inline.pid;
    assert_eq!(inline.run()["ok"], 20);
    assert_eq!(worker.run()["ok"], 20);
    let ended = injector.finish();
    ended.expect_code(0);
    assert_eq!(ended.delivered().count(), 0, "{:?}", ended.sends);
    assert_eq!(ended.counter("delivered_ns"), 0);
    // These sends are no system calls that a tracepoint could see.
    if hook != Hook::Tracepoint {
        assert!(ended.sends.len() >= 40, "{}", ended.sends.len());
        for send in &ended.sends {
            let guard = if send.pid == pid {
                "io_uring"
            } else {
                "io_worker"
            };
            assert_eq!(send.guard.as_deref(), Some(guard), "{send:?}");
        }
    }
}

fn blocking_only() {
    let plain = Target::start("sends", "tcp4 send 20 100");
    let non_blocking = Target::start("sends", "tcp4 send 20 100 --nonblock");
    let injector = Injector::start(&format!(
        "--pid {} --pid {} --delay 1ms --blocking-only",
        plain.pid, non_blocking.pid
    ));
    let pid = plain.pid;
    plain.run();
    non_blocking.run();
    let ended = injector.finish();
    ended.expect_code(0);
    assert_eq!(ended.sends.len(), 40);
    for send in &ended.sends {
        let blocking = send.pid == pid;
        assert_eq!(send.is_delivered(), blocking, "{send:?}");
        assert_eq!(send.non_blocking, !blocking, "{send:?}");
        assert_eq!(
            send.guard.as_deref() == Some("non_blocking"),
            !blocking,
            "{send:?}"
        );
    }
    assert_eq!(ended.counter("guard_non_blocking"), 20);
}
