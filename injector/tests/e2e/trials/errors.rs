//! Sends that fail because injector says so.

use libtest_mimic::Trial;

use super::{each_hook, needs};
use crate::harness::{Ended, Hook, Host, Injector, Target, statistics::fits_binomial};

const COUNT: usize = 400;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut trials = Vec::new();
    for hook in [Hook::Kprobe, Hook::Fentry] {
        let needed = || host.has(hook).and_then(|()| host.can_fail_sends());
        trials.push(needs(&format!("sends_fail[{hook}]"), needed(), move || {
            fail(hook);
        }));
        let name = format!("slow_sends_time_out[{hook}]");
        trials.push(needs(&name, needed(), move || time_out(hook)));
    }
    trials.extend(each_hook(host, "errors_in_shadow", shadow));
    trials
}

/// Shadow mode says what would be failed, also where nothing can be.
fn shadow(hook: Hook) {
    let target = Target::start("sends", "udp4 send 20 100");
    let injector = Injector::start(&format!(
        "--hook {hook} --pid {} --shadow --error ECONNRESET --when 1..20+2",
        target.pid
    ));
    assert_eq!(target.run()["ok"], 20);
    let ended = injector.finish();
    ended.expect_code(0);
    let sends = &ended.summary()["sends"];
    assert_eq!(sends["would_fail"], 10, "{sends}");
    assert_eq!(
        (&sends["failed"], &sends["would_suppress"]),
        (&0.into(), &0.into())
    );
}

fn run(arguments: &str, errno: &str) -> Ended {
    let target = Target::start("sends", &format!("udp4 send {COUNT} 100"));
    let injector = Injector::start(&format!("--pid {} --seed 7 {arguments}", target.pid));
    let target = target.run();
    let ended = injector.finish();
    ended.expect_code(0);
    let failed: Vec<_> = ended.sends.iter().filter(|send| send.failed).collect();
    assert!(!failed.is_empty());
    assert_eq!(target["errnos"][errno], failed.len(), "{target}");
    assert_eq!(target["failed"], failed.len());
    assert_eq!(ended.counter("failed"), failed.len() as u64);
    for send in failed {
        assert_eq!(send.errno_name.as_deref(), Some(errno), "{send:?}");
    }
    ended
}

fn fail(hook: Hook) {
    let ended = run(
        &format!("--hook {hook} --error ECONNRESET --probability 30%"),
        "ECONNRESET",
    );
    let failed = ended.sends.iter().filter(|send| send.failed).count();
    assert!(
        fits_binomial(failed, COUNT, 0.3),
        "{failed} of {COUNT} failed"
    );
    assert_eq!(ended.sends.len(), COUNT, "one record for each call");
}

fn time_out(hook: Hook) {
    let ended = run(
        &format!("--hook {hook} --delay 0..1200us --threshold 800us --on-timeout error:ETIMEDOUT"),
        "ETIMEDOUT",
    );
    for send in &ended.sends {
        if send.failed {
            assert!(send.flagged && send.asked_ns > Some(800_000), "{send:?}");
        }
    }
    let over = ended
        .sends
        .iter()
        .filter(|send| send.asked_ns > Some(800_000))
        .count();
    assert_eq!(ended.counter("failed"), over as u64);
}
