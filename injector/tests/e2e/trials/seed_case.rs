//! The case that started it: of two copies of one program, the gray one is
//! slowed down and told when it was too slow.

use std::sync::{Mutex, PoisonError};

use libtest_mimic::Trial;

use super::each_hook;
use crate::harness::{
    Ended, Hook, Host, Injector, MS, Target,
    statistics::{fits_binomial, fits_uniform},
};

/// The calls that were chosen and the delays asked for.
type Decisions = Vec<(Option<u64>, Option<u64>)>;

/// Those of an earlier run.
static EARLIER: Mutex<Option<Decisions>> = Mutex::new(None);

const MAX_SPIN: u64 = MS / 5;

pub fn trials(host: &'static Host) -> Vec<Trial> {
    each_hook(host, "seed_case", |hook| seed_case(host, hook))
}

fn seed_case(host: &Host, hook: Hook) {
    let sends = host.scale(2000, 600);
    let first = run(hook, sends);
    let asked: Vec<u64> = first.delivered().filter_map(|send| send.asked_ns).collect();
    assert!(
        fits_binomial(asked.len(), sends, 0.15),
        "{} of {sends} delayed",
        asked.len()
    );
    assert!(fits_uniform(&asked, 1200 * MS), "not uniform: {asked:?}");

    // Whatever the hook, one seed means one sequence.
    let mut earlier = EARLIER.lock().unwrap_or_else(PoisonError::into_inner);
    if earlier.is_none() && !host.is_slow {
        *earlier = Some(decisions(&run(hook, sends)));
    }
    let earlier = earlier.get_or_insert_with(|| decisions(&first));
    assert_eq!(*earlier, decisions(&first), "one seed, two runs");
}

fn decisions(ended: &Ended) -> Decisions {
    ended
        .delivered()
        .map(|send| (send.call_index, send.asked_ns))
        .collect()
}

/// One run, with everything checked that one run can show.
fn run(hook: Hook, sends: usize) -> Ended {
    let arguments = format!("{sends} 100 50");
    let mut gray = Target::start_with("order-api", &arguments, &[("env", "gray")]);
    let mut other = Target::start_with("order-api", &arguments, &[("env", "blue")]);
    let injector = Injector::start(&format!(
        "--hook {hook} --comm order-api --env env=gray --probability 15% --delay 0..1200ms \
         --threshold 800ms --on-timeout signal:SIGUSR2 --seed 42 --engine spin --max-spin 200us"
    ));
    let (gray_pid, other_pid) = (gray.pid, other.pid);
    gray.go();
    other.go();
    let (gray, other) = (gray.finish(), other.finish());
    injector.await_sends(sends);
    let ended = injector.stop();
    ended.expect_code(0);

    assert_eq!(gray["ok"], sends);
    assert_eq!(
        ended.sends.len(),
        sends,
        "{hook}: {}",
        ended.summary()["counters"]
    );
    assert!(
        ended
            .sends
            .iter()
            .all(|send| send.pid == gray_pid && send.hook == hook.to_string())
    );
    assert!(ended.sends.iter().all(|send| send.pid != other_pid));
    assert_eq!(other["sigusr2"], 0);

    let flagged = ended.sends.iter().filter(|send| send.flagged).count();
    assert!(flagged > 0);
    assert_eq!(gray["sigusr2"], flagged);
    for send in &ended.sends {
        let Some(asked) = send.asked_ns else {
            assert!(
                !send.flagged && !send.signalled && send.verdict == "passed",
                "{send:?}"
            );
            continue;
        };
        assert!(asked <= 1200 * MS, "{send:?}");
        assert_eq!(send.flagged, asked > 800 * MS, "{send:?}");
        assert_eq!(send.signalled, send.flagged, "{send:?}");
        assert_eq!(send.capped, asked > MAX_SPIN, "{send:?}");
        assert!(send.delivered_ns >= Some(asked.min(MAX_SPIN)), "{send:?}");
    }
    for (counter, expected) in [
        ("seen", sends),
        ("matched", sends),
        ("delayed", ended.delivered().count()),
        ("flagged", flagged),
        ("signalled", flagged),
        ("records_dropped", 0),
    ] {
        assert_eq!(ended.counter(counter), expected as u64, "{counter}");
    }
    ended
}
