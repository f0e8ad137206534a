//! `--watch-map`: hardware tells who writes a map and for how long.

use libtest_mimic::Trial;
use serde_json::Value;

use super::needs;
use crate::harness::{
    Host, Injector, Target,
    go::{self, Toolchain},
};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let mut toolchains = go::chosen();
    if toolchains.is_empty() {
        println!("skip watch: no Go toolchain is in the cache");
    }
    if host.is_slow && toolchains.len() > 1 {
        println!("skip watch with all but one Go: slow in an emulated machine");
        toolchains.drain(..toolchains.len() - 1);
    }
    let mut trials = Vec::new();
    for toolchain in toolchains {
        let mut add = |name: &str, run: fn(&Toolchain)| {
            let with = toolchain.clone();
            let name = format!("{name}[{}]", toolchain.version);
            trials.push(needs(&name, host.has_uprobe_multi(), move || run(&with)));
        };
        add("watch_tells_who_writes_a_variable", variable);
        add("watch_finds_maps_of_a_type", map_type);
        add("watch_refuses_what_is_no_map", refusals);
    }
    trials
}

/// Two goroutines that lock the map properly; the watched map, and who of the
/// two writes it.
fn watch(toolchain: &Toolchain, expression: &str) -> (Vec<Value>, u64, u64) {
    let mut target = Target::start(&toolchain.program("collide"), "locked");
    let truth: Value = serde_json::from_str(&target.line()).expect("the truth as JSON");
    let pair = truth["pair"].as_array().expect("a pair");
    let writer = pair.iter().find(|party| party["role"] == "assign");
    let writer = writer.and_then(|it| it["goroutine"].as_u64());
    let injector = Injector::start_with(&format!(
        "maps --pid {} --budget none --output json --watch-map {expression}",
        target.pid
    ));
    target.go();
    let seen = target.finish();
    let ended = injector.finish();
    ended.expect_code(0);
    let watches = ended.maps.iter().filter(|it| it["type"] == "watch");
    (
        watches.cloned().collect(),
        writer.expect("a writer"),
        seen["ok"].as_u64().expect("how many operations"),
    )
}

/// The map that both use with a lock, and nobody else writes.
#[track_caller]
fn check(watch: &Value, writer: u64, done: u64) {
    let number = |name: &str| watch[name].as_u64().expect(name);
    let operations = number("operations");
    assert!(operations > 0 && operations <= done, "{watch}");
    assert_eq!(watch["goroutines"][0]["goroutine"], writer, "{watch}");
    assert_eq!(
        watch["goroutines"].as_array().map(Vec::len),
        Some(1),
        "{watch}"
    );
    assert_eq!(watch["callers"][0]["function"], "main.assign", "{watch}");
    assert_eq!(number("overlapping"), 0, "{watch}");
    // Each operation sets the flag and takes it back, and nothing else writes it.
    let others = ["repeated", "cut", "other_flags", "foreign"];
    let others: u64 = others.iter().map(|name| number(name)).sum();
    // One can be under way at the end.
    let expected = 2 * operations + others;
    assert!(
        (expected..=expected + 1).contains(&number("hits")),
        "{watch}"
    );
    assert!(number("hit_price_ns") > 0 && number("cost_ns") > number("program_ns"));
}

fn variable(toolchain: &Toolchain) {
    let (watches, writer, done) = watch(toolchain, "main.shared");
    let [watch] = &watches[..] else {
        panic!("{watches:?}");
    };
    check(watch, writer, done);
    assert_eq!(watch["expression"], "main.shared");
}

fn map_type(toolchain: &Toolchain) {
    let (watches, writer, done) = watch(toolchain, "map[int]int");
    let [watch] = &watches[..] else {
        panic!("{watches:?}");
    };
    check(watch, writer, done);
}

fn refusals(toolchain: &Toolchain) {
    let target = Target::start(&toolchain.program("collide"), "locked");
    let refused = |flags: &str, words: &str| {
        let ended = Injector::run(&format!("maps --pid {} --budget none {flags}", target.pid));
        ended.expect_code(2);
        ended.expect_words(words);
    };
    refused("--watch-map main.nothing", "no such package variable");
    refused("--watch-map 0xnone", "no address");
    refused(
        &"--watch-map main.shared ".repeat(5),
        "registers for 4 maps",
    );
}
