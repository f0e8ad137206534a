//! The HTML report, in a browser: no complaints, and the figures of JSON.

use std::{collections::BTreeMap, fs, path::Path};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{needs, on_fast_hosts};
use crate::harness::{
    Ended, Host, Injector, Target,
    browser::{self, Page},
    go::{self, Toolchain},
    programs::Scratch,
};

/// What the page of a run of a minute may have, in bytes.
const LARGEST: u64 = 2_000_000;

/// What the first trial is called.
const FIGURES: &str = "html_has_the_figures_of_json";

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let browser = browser::there();
    let mut trials = vec![match &browser {
        Ok(()) => on_fast_hosts(host, FIGURES, sends),
        Err(why) => needs(FIGURES, Err(why.clone()), || {}),
    }];
    let Some(toolchain) = go::chosen().pop().filter(|_| !host.is_slow) else {
        println!("skip html_shows_the_chain: no Go toolchain, or a slow machine");
        return trials;
    };
    trials.push(needs(
        "html_shows_the_chain",
        browser.and_then(|()| host.has_uprobe_multi()),
        move || chain(&toolchain),
    ));
    trials
}

/// Reports a recording as JSON and as a page.
fn report(file: &Path, scratch: &Scratch) -> (Ended, Page) {
    let html = scratch.path("report.html");
    let report = Injector::run_words(&[
        "report",
        &file.display().to_string(),
        "--output",
        "json",
        "--html",
        &html.display().to_string(),
    ]);
    report.expect_code(0);
    let size = fs::metadata(&html).expect("the page").len();
    assert!(size < LARGEST, "{size} bytes");
    let page = Page::open(&html);
    assert_eq!(page.complaints, Vec::<String>::new());
    (report, page)
}

/// Each figure is the one that JSON has under its name.
#[track_caller]
fn agree(figures: &BTreeMap<String, String>, below: &str, json: &Value) -> usize {
    let below = figures.iter().filter_map(|(name, value)| {
        let pointer = name.strip_prefix(below)?;
        Some((name, pointer, value))
    });
    let mut count = 0;
    for (name, pointer, value) in below {
        let expected = json.pointer(pointer);
        let expected = expected.unwrap_or_else(|| panic!("{name} is not in JSON: {json}"));
        assert_eq!(*value, expected.to_string(), "{name}");
        count += 1;
    }
    count
}

fn sends() {
    let scratch = Scratch::new("html");
    let file = scratch.path("run");
    let mut target = Target::start("order_api", "400 200 0");
    let injector = Injector::start(&format!(
        "--pid {} --delay 1ms --probability 30% --record {}",
        target.pid,
        file.display()
    ));
    target.go();
    target.finish();
    injector.finish().expect_code(0);
    let (json, page) = report(&file, &scratch);
    let figures = page.figures();
    assert!(figures.contains_key("/summary/sends/delivered_ns"));
    assert!(figures.contains_key("/summary/asked_delay/p50_ns"));
    let count = agree(&figures, "/summary", json.summary());
    assert_eq!(count, figures.len(), "{figures:?}");
    for part in ["Heat map", "Distributions of delays", "What was not seen"] {
        assert!(page.html.contains(part), "{part}");
    }
}

fn chain(toolchain: &Toolchain) {
    let scratch = Scratch::new("html-chain");
    let file = scratch.path("run");
    let mut target = Target::start(&toolchain.program("share"), "sender 3");
    let injector = Injector::start(&format!(
        "--pid {} --delay 20ms --probability 40% --seed 7 --maps --budget none --record {}",
        target.pid,
        file.display()
    ));
    target.go();
    target.line();
    injector.finish().expect_code(0);
    let (json, page) = report(&file, &scratch);
    let [conclusions] = &json.conclusions[..] else {
        panic!("not one report: {:?}", json.conclusions);
    };
    let figures = page.figures();
    let count = agree(&figures, "/programs/0/report", conclusions)
        + agree(&figures, "/summary", json.summary());
    assert_eq!(count, figures.len(), "{figures:?}");
    assert!(figures.contains_key("/programs/0/report/sends/waited_injected_ns"));
    // The picture: who had the lock, in a delayed send, who waited, and for whom.
    for class in ["hold", "wait", "f-injected", "arrow"] {
        let drawn = format!(r#" class="{class}""#);
        let (_, pictures) = page.html.split_once("The worst moments").expect("moments");
        assert!(pictures.contains(&drawn), "no {class}");
    }
    assert!(page.html.contains("of delay were injected"));
    assert!(page.html.contains("do not send under the lock"));
}
