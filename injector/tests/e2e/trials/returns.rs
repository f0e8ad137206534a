//! Many sends that block at once: a kretprobe follows a limited number of
//! calls, and what it misses must be counted.

use libtest_mimic::Trial;

use super::each_hook;
use crate::harness::{Hook, Host, Injector, Target};

const THREADS: usize = 300;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    each_hook(host, "blocked_senders", blocked)
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
    assert!(seen >= THREADS as u64, "{target} {seen}");
    assert_eq!(ended.counter("records_dropped"), 0);
    let complete = ended.sends.len() as u64;
    assert!(
        complete + missed >= THREADS as u64,
        "{complete} records, {missed} returns missed"
    );
    if hook != Hook::Kprobe {
        assert_eq!(missed, 0);
        assert!(complete >= THREADS as u64, "{complete}");
    }
}
