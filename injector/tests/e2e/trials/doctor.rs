//! What `injector doctor` says of the engines is what a run does.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use super::anywhere;
use crate::harness::{Host, Injector, Target, programs::INJECTOR};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    vec![
        anywhere("doctor_measures_the_engines_that_work", move || {
            engines(host);
        }),
        super::sleep_engine::sleeps(host, "doctor_and_run_agree_on_a_missing_server", no_fuse),
    ]
}

/// The one line of `doctor`, started by this shell command with `exec "$0"`.
fn doctor(script: &str) -> Value {
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", script, INJECTOR])
        .output()
        .expect("unshare");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

const DOCTOR: &str = r#"exec "$0" doctor --output json"#;
/// There is a file, and nobody behind it.
const WITHOUT_FUSE: &str = "mount --bind /dev/null /dev/fuse;";

/// The element of `list` that is called so.
fn named<'a>(list: &'a Value, key: &str, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item[key] == name)
}

fn engines(host: &Host) {
    let report = doctor(DOCTOR);
    let number = |engine: &Value, key: &str| engine[key].as_u64().expect("a number");
    let sleep = named(&report["engines"], "name", "sleep").expect("a row for sleep");
    let measured = &report["measured"]["engines"];
    let spun = named(measured, "engine", "spin").expect("spin works wherever a hook does");
    assert!(number(spun, "delays") > 0, "{measured}");
    // It burns what it delays; a virtual machine may not count what is taken
    // from it meanwhile.
    assert!(
        number(spun, "cpu_ns") > number(spun, "asked_ns") / 2,
        "{measured}"
    );

    if let Err(refused) = host.can_sleep() {
        println!("doctor: {}; a run: {refused}", sleep["reasons"]);
        assert_eq!(sleep["works"], false);
        assert_eq!(report["chosen_engine"], "spin");
        assert!(named(measured, "engine", "sleep").is_none(), "{measured}");
        let why = sleep["reasons"][0]["why"].as_str().expect("a reason");
        assert!(refused.contains(why), "{why}: {refused}");
        return;
    }
    println!("{measured}");
    assert_eq!(sleep["works"], true, "{sleep}");
    assert!(
        ["lsm", "task_work"]
            .map(Value::from)
            .contains(&sleep["way"])
    );
    assert_eq!(report["chosen_engine"], "sleep");
    assert_eq!(report["engines"][0], *sleep, "not best first");
    let slept = named(measured, "engine", "sleep").expect("sleep was measured");
    assert_eq!(slept["delays"], spun["delays"]);
    assert_eq!(slept["hook"], report["chosen_hook"]);
    assert_eq!(measured[0], *slept, "not best first");
    if !host.is_slow {
        assert!(
            number(slept, "cpu_ns") < number(spun, "cpu_ns"),
            "{measured}"
        );
    }
}

fn no_fuse() {
    let report = doctor(&format!("{WITHOUT_FUSE} {DOCTOR}"));
    let sleep = named(&report["engines"], "name", "sleep").expect("a row for sleep");
    assert_eq!(sleep["works"], false);
    assert_eq!(report["chosen_engine"], "spin");
    let measured = &report["measured"]["engines"];
    assert!(named(measured, "engine", "sleep").is_none(), "{measured}");
    assert!(named(measured, "engine", "spin").is_some(), "{measured}");
    let why = sleep["reasons"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("FUSE"), "{why}");

    let target = Target::start("sleeper", "100");
    let script = format!(
        r#"{WITHOUT_FUSE} exec "$0" --pid {} --delay 1ms --engine sleep"#,
        target.pid
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &script, INJECTOR]);
    let refused = Injector::spawn_command(&mut command).finish();
    refused.expect_code(3);
    refused.expect_words(why);
}
