//! Changes of a run while it lasts, through its control socket.

use libtest_mimic::Trial;

use super::on_fast_hosts;
use crate::harness::{Host, Injector, Target, programs::Scratch};

pub fn trials(host: &Host) -> Vec<Trial> {
    vec![on_fast_hosts(host, "control_changes_a_run", changes)]
}

fn changes() {
    let scratch = Scratch::new("control");
    let socket = scratch.path("socket").display().to_string();
    let mut target = Target::start("order_api", "1 100 1000 --forever");
    let injector = Injector::start(&format!(
        "--pid {} --delay 1ms --probability 0% --control {socket}",
        target.pid
    ));
    let ask = |request: &str| Injector::run(&format!("control {socket} {request}"));
    let more = || injector.await_sends(injector.sends().len() + 20);

    target.go();
    more();
    ask("probability 100%").expect_code(0);
    more();
    ask("mode shadow").expect_code(0);
    more();
    for (request, grammar) in [
        ("probability 200%", "100%"),
        ("delay soon", "normal("),
        ("explode", "probability P"),
    ] {
        let refused = ask(request);
        refused.expect_code(2);
        refused.expect_words(grammar);
    }
    ask("delay 3ms").expect_code(0);
    more();
    ask("mode enforce").expect_code(0);
    more();
    ask("stop").expect_code(0);
    let ended = injector.finish();
    ended.expect_code(0);
    ended.expect_ending("control");

    // One thread, one ring: the order is that of the calls.
    let mut phases: Vec<_> = ended
        .sends
        .iter()
        .map(|send| (send.verdict.as_str(), send.asked_ns.unwrap_or(0)))
        .collect();
    phases.dedup();
    assert_eq!(
        phases,
        [
            ("passed", 0),
            ("delivered", 1_000_000),
            ("shadowed", 1_000_000),
            ("shadowed", 3_000_000),
            ("delivered", 3_000_000)
        ]
    );
    ended.expect_words("control: uid 0");
    assert!(!scratch.path("socket").exists(), "the socket is removed");
}
