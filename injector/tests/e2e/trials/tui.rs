//! The terminal UI, in a real pseudo-terminal.

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::on_fast_hosts;
use crate::harness::{Host, Injector, Target, Terminal};

/// What ends a run from outside.
const SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

pub fn trials(host: &Host) -> Vec<Trial> {
    vec![
        on_fast_hosts(host, "tui_shows_and_changes_a_run", changes),
        on_fast_hosts(host, "tui_gives_the_terminal_back", signals),
        on_fast_hosts(host, "tui_needs_a_terminal", refused),
    ]
}

fn changes() {
    let mut target = Target::start("order_api", "1 100 1000 --forever");
    let arguments = format!(
        "--pid {} --delay 1ms --probability 20% --duration 0 --tui",
        target.pid
    );
    let mut terminal = Terminal::start(&arguments, 24, 80);
    terminal.expect("ENFORCE");
    target.go();
    // The table of delays, and in it what the sends were asked and given.
    terminal.expect("asked");
    terminal.expect("delivered");
    terminal.press("2");
    terminal.expect("order_api");

    terminal.press("+");
    terminal.expect("probability 25%");
    terminal.press("s");
    terminal.expect("SHADOW");
    terminal.press("p");
    terminal.expect("PAUSED");
    // Without --maps the fourth page has the news.
    terminal.press("4");
    terminal.expect("key: uid 0: mode shadow");
    terminal.resize(12, 40);
    terminal.expect("p pause");
    terminal.press("p");
    terminal.expect("SHADOW");
    terminal.press("?");
    terminal.expect("stop and show");
    terminal.press("q");

    let (code, written) = terminal.finish();
    assert_eq!(code, Some(0), "{written}");
    for words in [
        // Who changed what is still there when the UI is gone.
        "key: uid 0: probability 25%",
        "key: uid 0: paused",
        "key: uid 0: resumed",
        "in shadow mode",
        "probability 25%",
        "stopped with a key",
    ] {
        let report = written.rsplit("\u{1b}[?1049l").next().unwrap_or_default();
        assert!(report.contains(words), "'{words}' is not in {report}");
    }
}

fn signals() {
    for signal in SIGNALS {
        let mut target = Target::start("order_api", "1 100 1000 --forever");
        target.go();
        let terminal = Terminal::start(&format!("--pid {} --tui", target.pid), 24, 80);
        terminal.expect("sends/s");
        terminal.signal(signal);
        let (code, written) = terminal.finish();
        assert_eq!(code, Some(0), "{written}");
        assert!(written.contains(signal.as_str()), "{signal}: {written}");
    }
}

fn refused() {
    let target = Target::start("order_api", "1 100 0");
    let refused = Injector::run(&format!("--pid {} --tui", target.pid));
    refused.expect_code(2);
    refused.expect_words("--tui needs a terminal");
}
