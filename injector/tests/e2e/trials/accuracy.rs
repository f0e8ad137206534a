//! A delay is never shorter than what was asked for.

use libtest_mimic::Trial;

use super::each_hook;
use crate::harness::{Hook, Host, Injector, MS, Target};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    each_hook(host, "delays_are_not_short", not_short)
}

fn not_short(hook: Hook) {
    let target = Target::start("sends", "tcp4 send 100 100 --times");
    let injector = Injector::start(&format!("--hook {hook} --pid {} --delay 2ms", target.pid));
    let target = target.run();
    let ended = injector.finish();
    ended.expect_code(0);
    let times = target["times_ns"].as_array().expect("times");
    assert_eq!(times.len(), 100);
    assert!(
        times.iter().all(|time| time.as_u64() >= Some(2 * MS)),
        "{times:?}"
    );
    assert_eq!(ended.delivered().count(), 100);
    assert!(
        ended
            .delivered()
            .all(|send| send.delivered_ns >= send.asked_ns)
    );
    assert_eq!(ended.summary()["early_delays"], 0);
}
