//! What `injector maps` calls maps and locks, and whose it shows.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use super::each_toolchain;
use crate::harness::{
    Ended, Host, Injector, Target,
    go::Toolchain,
    programs::{self, Scratch},
};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    each_toolchain(
        host,
        "maps_names",
        [
            ("maps_names_what_it_shows", names),
            ("maps_names_types_of_stripped_programs", without_names),
        ],
    )
}

/// Traces a program to its end, with all its operations.
fn trace(program: &str, arguments: &str) -> Ended {
    let target = Target::start(program, "named 400");
    let injector = Injector::start_with(&format!(
        "maps --pid {} --budget none --output json {arguments}",
        target.pid
    ));
    assert_eq!(target.run()["right"], true);
    let ended = injector.finish();
    ended.expect_code(0);
    ended
}

fn report(ended: &Ended) -> &Value {
    ended.conclusions.last().expect("a report")
}

fn all<'a>(report: &'a Value, what: &str) -> &'a [Value] {
    report[what].as_array().expect("a list")
}

#[track_caller]
fn find<'a>(report: &'a Value, what: &str, name: &str) -> &'a Value {
    let mut found = all(report, what).iter();
    found
        .find(|one| one["about"]["name"] == name)
        .unwrap_or_else(|| panic!("no {name} among {what} in {report:#}"))
}

fn hits(ended: &Ended, operation: &str) -> u64 {
    let summary = ended.maps.last().expect("a summary");
    let operations = summary["operations"].as_array().expect("operations");
    let one = operations.iter().find(|one| one["operation"] == operation);
    one.and_then(|one| one["hits"].as_u64()).unwrap_or(0)
}

fn names(toolchain: &Toolchain) {
    let program = toolchain.program("busy");
    let ended = trace(&program, "");
    let report = report(&ended);
    let sessions = find(report, "maps", "main.store.sessions");
    assert_eq!(sessions["about"]["type_name"], "map[int]int");
    assert_eq!(sessions["name_measured"], true);
    assert_eq!(sessions["elements"], 8);
    assert_eq!(
        sessions["guard"]["name"], "main.store.RWMutex",
        "{sessions:#}"
    );
    // By the layout of the one struct that has such fields.
    let items = find(report, "maps", "main.cache.items");
    assert_eq!(items["about"]["type_name"], "map[string]int");
    assert_eq!(items["name_measured"], false);
    assert_eq!(items["guard"]["name"], "main.cache.mu", "{items:#}");
    find(report, "locks", "main.cache.mu");
    find(report, "locks", "main.store.RWMutex");
    let table = find(report, "sync_maps", "main.table");
    assert_eq!(table["ranges"], table["ranges_over"], "{table:#}");
    assert_eq!(hits(&ended, "sync_map_range"), 4 * 400);
    assert_eq!(hits(&ended, "sync_map_range_end"), 4 * 400);

    let ended = trace(&program, "--exclude main");
    let report = self::report(&ended);
    for what in ["maps", "sync_maps", "locks"] {
        let shown = all(report, what).iter();
        let ours = shown.filter(|one| one["about"]["name"].is_string());
        assert_eq!(ours.count(), 0, "{report:#}");
    }
    assert_eq!(hits(&ended, "sync_map_range"), 4 * 400);
}

fn without_names(toolchain: &Toolchain) {
    let scratch = Scratch::new("maps-stripped");
    let copy = scratch.path("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&copy)
        .arg(programs::path(&toolchain.program("busy")))
        .status()
        .expect("strip, of binutils");
    assert!(status.success());
    // An absolute path is what it is.
    let ended = trace(copy.to_str().expect("UTF-8"), "");
    let report = report(&ended);
    let types: Vec<&Value> = all(report, "maps")
        .iter()
        .map(|map| &map["about"]["type_name"])
        .collect();
    for name in ["map[int]int", "map[string]int"] {
        assert!(types.iter().any(|one| **one == *name), "{report:#}");
    }
    let summary = ended.maps.last().expect("a summary");
    let why = summary["no_names"].as_str().expect("a reason");
    assert!(why.contains("DWARF"), "{why}");
    // Who uses them is told all the same.
    assert!(report.to_string().contains("main.put"), "{report:#}");
}
