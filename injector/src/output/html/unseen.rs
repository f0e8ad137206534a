//! What a run did not see: losses, what had no room, and the shares of the time in
//! which operations were looked at.

use serde::Serialize;
use serde_json::Value;

use super::Report;
use crate::explain::maps::Limits;

/// Something that was not seen or had no room.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    what: String,
    amount: u64,
    meaning: String,
}

/// How much of the time operations of a kind were seen.
#[derive(Debug, PartialEq, Serialize)]
pub struct Share {
    pid: u64,
    operation: String,
    seen: f64,
}

/// All of it, without what is none.
pub fn of(report: &Report<'_>) -> Vec<Unseen> {
    let mut all = Vec::new();
    let mut add = |what: String, amount: u64, meaning: &str| {
        if amount > 0 {
            all.push(Unseen {
                what,
                amount,
                meaning: meaning.to_owned(),
            });
        }
    };
    for (name, meaning, count) in report.totals.losses() {
        add(words(name), count, meaning);
    }
    let info = report.info;
    add(
        "sends in flight".to_owned(),
        info.in_flight,
        "Sends that had not returned at the end of the run. They have no record.",
    );
    add(
        "programs skipped".to_owned(),
        info.skipped,
        "Times that the kernel left out a program of injector because it was already running on \
         that CPU. Each may be a send that was not seen.",
    );
    add(
        "sends without a start".to_owned(),
        report.sends.map_or(0, |sends| sends.total.no_start),
        "Sends that were seen to end and not to begin. They have no times.",
    );
    for program in &report.programs {
        let of = |what: &str| format!("process {}: {what}", program.pid);
        for (name, count, meaning) in Limits::rows(&program.trace.limits()) {
            add(of(&words(name)), count, meaning);
        }
        add(
            of("spans lost"),
            program.trace.lost_spans(),
            "Waits, holds and iterations that came too fast to be kept one by one: they are in all \
             sums and in no time line.",
        );
    }
    for told in of_type(&report.told, "maps_summary") {
        let of = |what: &str| format!("process {}: {what}", told["pid"]);
        for lost in list(told, "lost") {
            let meaning = lost["meaning"].as_str().unwrap_or_default();
            let name = words(lost["counter"].as_str().unwrap_or_default());
            add(of(&name), lost["count"].as_u64().unwrap_or(0), meaning);
        }
        add(
            of("wrong stacks"),
            told["stacks"]["wrong"].as_u64().unwrap_or(0),
            "Different call stacks with a return address that is behind no call, or behind that of \
             another function: they cannot be right.",
        );
        if let Some(why) = told["no_names"].as_str() {
            let meaning = format!("Names of variables and fields are not known: {why}.");
            add(of("no names"), 1, &meaning);
        }
    }
    add(
        "damaged places".to_owned(),
        report.damage.places,
        &format!(
            "Places of the recording that are damaged or cut off, {} bytes in all: what was in them \
             is in no number here.",
            report.damage.bytes
        ),
    );
    add(
        "unknown items".to_owned(),
        report.damage.unknown_items,
        "Items of the recording that a newer injector wrote: a newer one can read them.",
    );
    all
}

/// Operations that were seen in a part of the time only.
pub fn shares(told: &[Value]) -> Vec<Share> {
    let summaries = of_type(told, "maps_summary");
    let shares = summaries.flat_map(|told| {
        list(told, "seen").iter().filter_map(|seen| {
            Some(Share {
                pid: told["pid"].as_u64()?,
                operation: words(seen["operation"].as_str()?),
                seen: seen["share"].as_f64()?,
            })
        })
    });
    shares.filter(|share| share.seen < 0.99).collect()
}

fn of_type<'a>(told: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    told.iter().filter(move |told| told["type"] == name)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_seen_all_the_time_is_no_share() {
        let told = json!({"type": "maps_summary", "pid": 7, "seen": [
            {"operation": "access", "share": 0.125}, {"operation": "grow", "share": 1.0},
        ]});
        let other = json!({"type": "fatal", "pid": 7});
        let expected = [Share {
            pid: 7,
            operation: "access".to_owned(),
            seen: 0.125,
        }];
        assert_eq!(shares(&[other, told]), expected);
    }
}
