//! The summary of a run in words: what was asked, what was delivered, and the
//! worst of what came of it.

use std::fmt::Write as _;

use injector_ebpf::{Counter, Mode};
use serde::Serialize;
use serde_json::Value;

use super::super::{
    maps_finding, nanoseconds,
    units::{Time, percent},
};
use crate::{
    explain::{
        RunInfo, Summary, Totals,
        maps::{Claim, Confidence, Finding, Party},
    },
    go::is_runtime,
};

/// How bad it is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The program died of it, or surely will.
    Fatal,
    /// It cost time, or is likely to go wrong.
    Bad,
    /// To be known when reading the rest.
    Note,
}

/// Something to know, in words.
#[derive(Debug, Serialize)]
pub struct Worded {
    grade: Grade,
    /// One sentence.
    title: String,
    /// What it rests on.
    evidence: Vec<String>,
    /// Why it is as sure as it is.
    why: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'static str>,
    /// The part of the page that has the rest.
    part: &'static str,
}

impl Worded {
    /// How bad it is.
    pub fn grade(&self) -> Grade {
        self.grade
    }
}

/// What was asked for.
pub fn asked(info: &RunInfo, sends: bool) -> Vec<String> {
    if !sends {
        return vec![format!(
            "For {}, maps and locks of {} were traced, and nothing was done to its sends. The run \
             ended because: {}.",
            Time(nanoseconds(info.elapsed)),
            info.targets,
            info.ended
        )];
    }
    let doing = match info.mode {
        Mode::Enforce => "what the rules chose was done",
        Mode::Shadow => "shadow mode: what the rules chose was recorded and not done",
    };
    vec![format!(
        "For {}, sends of {} were watched; {doing}. The run ended because: {}.",
        Time(nanoseconds(info.elapsed)),
        info.targets,
        info.ended
    )]
}

/// What became of it.
pub fn delivered(info: &RunInfo, summary: &Summary, totals: &Totals) -> Vec<String> {
    let seen = totals.get(Counter::Seen).max(summary.total.sends);
    if seen == 0 {
        return vec!["No target sent anything that the hook sees.".to_owned()];
    }
    let total = &summary.total;
    let mut words = Vec::new();
    let of = |part: u64, whole: u64| percent(part, whole).unwrap_or_else(|| "none".to_owned());
    let chosen = totals.get(Counter::Chosen).max(total.chosen);
    let matched = totals.get(Counter::Matched).max(total.matched);
    let mut first = format!(
        "{seen} sends were seen, {matched} of them matched, and {chosen} ({}) were chosen",
        of(chosen, matched)
    );
    if info.mode == Mode::Shadow {
        first.push_str(": nothing was done to them.");
    } else if total.delayed > 0 {
        let _ = write!(
            first,
            ": {} were delayed, by {} in all.",
            total.delayed,
            Time(total.delivered_ns)
        );
    } else {
        first.push_str("; none was delayed.");
    }
    words.push(first);
    if let (Some(asked), Some(delivered)) =
        (summary.asked.quantile(0.5), summary.delivered.quantile(0.5))
    {
        let mut second = format!(
            "Half of the delays that were asked for were up to {}, half of those delivered up to {}",
            Time(asked),
            Time(delivered)
        );
        if let Some(off) = summary.error.quantile(0.99) {
            let _ = write!(
                second,
                "; 99% of those that nothing cut short were within {} of what was asked",
                Time(off)
            );
        }
        second.push('.');
        words.push(second);
    }
    let baseline = &summary.natural_baseline;
    if let (Some(half), Some(most)) = (baseline.quantile(0.5), baseline.quantile(0.99)) {
        words.push(format!(
            "By itself a send takes {} (median of {} that were not delayed; 99% take up to {}).",
            Time(half),
            baseline.count(),
            Time(most)
        ));
    }
    words
}

/// What is to be known of the sends.
pub fn of_sends(info: &RunInfo, summary: &Summary, totals: &Totals) -> Vec<Worded> {
    let total = &summary.total;
    let mut all = Vec::new();
    let share = |part, whole| percent(part, whole).unwrap_or_default();
    let note = |title: String, evidence: Vec<String>, remedy: Option<&str>| Worded {
        grade: Grade::Note,
        title,
        evidence,
        why: Vec::new(),
        remedy: remedy.map(str::to_owned),
        confidence: None,
        part: "sends",
    };
    if total.flagged > 0 {
        all.push(Worded {
            grade: Grade::Bad,
            ..note(
                format!(
                    "{} sends ({} of those that matched) passed the threshold",
                    total.flagged,
                    share(total.flagged, total.matched)
                ),
                Vec::new(),
                None,
            )
        });
    }
    if total.failed > 0 {
        all.push(note(
            format!("{} sends were failed by the rule", total.failed),
            Vec::new(),
            None,
        ));
    }
    if total.capped > 0 {
        all.push(note(
            format!(
                "{} of {} delays were cut short by the engine's ceiling",
                total.capped, total.delayed
            ),
            vec![format!("the engine: {}", info.engine)],
            Some(
                "use the sleep engine, which allows longer delays, or raise --max-spin; \
                 injector doctor says which engines this host has",
            ),
        ));
    }
    let guards: Vec<_> = totals.guards().collect();
    let suppressed: u64 = guards.iter().map(|(.., count)| count).sum();
    if suppressed > 0 {
        let evidence = guards
            .iter()
            .map(|(name, meaning, count)| format!("{name}: {count} ({meaning})"));
        let did = match info.mode {
            Mode::Enforce => "let through",
            Mode::Shadow => "would have let through",
        };
        all.push(note(
            format!("Guards {did} {suppressed} sends that the rules chose"),
            evidence.collect(),
            None,
        ));
    }
    let own: u64 = summary.errnos().map(|(_, outcome)| outcome.own).sum();
    if own > 0 {
        all.push(note(
            format!(
                "{own} sends ({}) returned an error of their own",
                share(own, total.sends)
            ),
            Vec::new(),
            None,
        ));
    }
    all
}

/// A conclusion about a map or a lock.
pub fn of_finding(finding: &Finding) -> Worded {
    let about = format!(
        "{} {}",
        finding.about.what,
        maps_finding::called(&finding.about)
    );
    let measured = |name| finding.figure(name);
    let title = match finding.claim {
        Claim::Contention => format!(
            "Goroutines waited {} times for {about}, for {} in all",
            measured("waits"),
            Time(measured("total_ns"))
        ),
        Claim::Overlap => {
            format!("Two goroutines were in {about} at once, and one of them wrote")
        }
        Claim::WriteDuringIteration => {
            format!("One goroutine wrote to {about} while another iterated over it")
        }
        Claim::Unordered => {
            format!("Nothing that was seen orders the goroutines that use {about}")
        }
        Claim::ChangeDuringOwnIteration => {
            format!("A goroutine changed {about} while it iterated over it itself")
        }
        Claim::RangeMissed => format!(
            "{about} was changed during {} of {} calls of Range, which may have missed {} stores",
            measured("ranges_disturbed"),
            measured("ranges"),
            measured("stores")
        ),
    };
    let mut evidence: Vec<String> = finding.parties.iter().take(3).map(party).collect();
    evidence.extend(finding.inferred.iter().cloned());
    let grade = match (finding.claim, finding.confidence) {
        (Claim::Overlap, Confidence::High) => Grade::Fatal,
        (_, Confidence::Low) | (Claim::ChangeDuringOwnIteration, _) => Grade::Note,
        _ => Grade::Bad,
    };
    Worded {
        grade,
        title,
        evidence,
        why: finding.why.clone(),
        remedy: Some(finding.remedy.to_owned()),
        confidence: Some(finding.confidence.name()),
        part: "locks",
    }
}

fn party(party: &Party) -> String {
    let mut text = party.role.to_owned();
    if let Some(id) = party.goroutine {
        text = format!("goroutine {id} {text}");
    }
    if let Some(place) = &party.place {
        let _ = write!(text, " in {} (line {})", place.function, place.line);
    }
    match (party.count, party.total_ns) {
        (0, _) => {}
        (count, ns) => {
            let times = if count == 1 { "time" } else { "times" };
            let _ = write!(text, ", {count} {times}");
            if ns > 0 {
                let _ = write!(text, ", {} in all", Time(ns));
            }
        }
    }
    text
}

/// A report of a fatal error, as it was written when it came.
pub fn of_fatal(report: &Value) -> Worded {
    let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
    let side = |side: &Value| {
        let operation = side["operation"].as_str().unwrap_or("operation not known");
        let stack = side["stack"].as_array().map_or(&[][..], Vec::as_slice);
        let own = stack.iter().filter_map(|frame| frame["function"].as_str());
        let own = own.into_iter().find(|name| !is_runtime(name));
        let place = own.map_or_else(String::new, |name| format!(" in {name}"));
        format!("goroutine {} ({operation}{place})", side["goroutine"])
    };
    let mut evidence = vec![format!("found by {}", side(&report["victim"]))];
    if report["other"].is_object() {
        evidence.push(format!("ran into {}", side(&report["other"])));
    }
    if let Some(why) = report["no_other"].as_str() {
        evidence.push(format!("who it ran into is not known: {why}"));
    }
    Worded {
        grade: Grade::Fatal,
        title: format!("The program ended itself: {}", text("message")),
        evidence,
        why: Vec::new(),
        remedy: report["remedy"].as_str().map(str::to_owned),
        confidence: None,
        part: "fatal",
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{fixture, maps_fixture},
        *,
    };

    #[test]
    fn the_summary_has_the_numbers_of_the_run() {
        let info = fixture::info(Mode::Enforce);
        let (summary, totals) = fixture::run(Mode::Enforce);
        let words = delivered(&info, &summary, &totals).join(" ");
        let total = summary.total;
        for number in [total.delayed, total.chosen, totals.get(Counter::Seen)] {
            assert!(words.contains(&number.to_string()), "{number}: {words}");
        }
        let asked = asked(&info, true).join(" ");
        assert!(
            asked.contains(&info.targets) && asked.contains("10s"),
            "{asked}"
        );
    }

    #[test]
    fn shadow_mode_claims_no_delay() {
        let info = fixture::info(Mode::Shadow);
        let (summary, totals) = fixture::run(Mode::Shadow);
        let words = delivered(&info, &summary, &totals).join(" ");
        assert!(!words.contains("delayed, by"), "{words}");
    }

    #[test]
    fn a_contended_lock_has_its_numbers_and_its_remedy() {
        let finding = maps_fixture::finding();
        let worded = of_finding(&finding);
        assert_eq!(
            worded.title,
            "Goroutines waited 31 times for RWMutex main.(*Cache).mu, for 1.2s in all"
        );
        assert_eq!(worded.remedy.as_deref(), Some(finding.remedy));
        assert_eq!(worded.grade, Grade::Bad);
        assert!(worded.evidence[0].contains("main.(*Cache).Refresh"));
    }
}
