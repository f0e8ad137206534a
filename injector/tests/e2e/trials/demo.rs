//! The demonstration finds what is true of its program.

use std::{fs, path::Path};

use libtest_mimic::Trial;

use super::each_toolchain;
use crate::harness::{Host, Injector, go::Toolchain, programs};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    each_toolchain(host, "demo", [("demo_finds_what_is_true", truths)])
}

fn truths(toolchain: &Toolchain) {
    let program = programs::path(&toolchain.program("demo"));
    let program = program.display().to_string();
    let ended = Injector::run(&format!("demo --duration 6s --program {program}"));
    let said = &ended.stdout;
    assert_eq!(ended.code, Some(0), "{said}\n{}", ended.stderr);
    assert_eq!(said.matches("\n  found ").count(), 4, "{said}");
    assert!(!said.contains("MISSING"), "{said}");
    // Its recording says the same again.
    let file = said.rsplit("injector report ").next().map(str::trim);
    let file = file.expect("the path of the recording");
    let report = Injector::run(&format!("report {file}"));
    report.expect_code(0);
    assert!(
        report.stdout.contains("main.catalog.mu"),
        "{}",
        report.stdout
    );
    let html = Path::new(file).with_extension("html");
    let page = fs::read_to_string(&html).expect("the page");
    assert!(page.contains("main.catalog.mu"), "{}", html.display());
    fs::remove_file(html).expect("the page");
    fs::remove_file(file).expect("the recording");
}
