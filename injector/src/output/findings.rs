//! What a run came to, in plain words: the worst findings with their numbers, a
//! remedy each, and where all of their evidence is.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::Path,
};

use super::{
    maps_finding::{self, called},
    text::{Clean, wrap},
    units::Time,
};
use crate::explain::maps::{Claim, Finding, Party, Trace};

/// How many are told.
const MOST: usize = 10;
/// Columns of the text, and where it begins beside the numbers.
const WIDTH: usize = 80;
const INDENT: usize = 4;

/// Findings of all programs, with their process ids, as they are numbered: those
/// of each program worst first.
pub fn all<'a>(programs: impl IntoIterator<Item = (u32, &'a Trace)>) -> Vec<(u32, Finding)> {
    let findings = programs
        .into_iter()
        .flat_map(|(pid, trace)| trace.findings().into_iter().map(move |it| (pid, it)));
    findings.collect()
}

/// Writes the worst of them for people. The recording is where the rest is.
pub fn text(
    out: &mut dyn Write,
    findings: &[(u32, Finding)],
    recording: Option<&Path>,
) -> io::Result<()> {
    out.write_all(page(findings, recording).as_bytes())
}

/// Writes all that is known of one of them for people.
pub fn evidence(out: &mut dyn Write, pid: u32, finding: &Finding) -> io::Result<()> {
    let mut page = format!("process {pid}\n");
    page.push_str(&maps_finding::whole(finding));
    out.write_all(page.as_bytes())
}

fn page(findings: &[(u32, Finding)], recording: Option<&Path>) -> String {
    if findings.is_empty() {
        return "no findings\n".to_owned();
    }
    let mut page = match findings.len() {
        1 => "1 finding:\n".to_owned(),
        count @ ..=MOST => format!("{count} findings, worst first:\n"),
        count => format!("{MOST} of {count} findings, worst first:\n"),
    };
    for (index, (_, finding)) in findings.iter().take(MOST).enumerate() {
        let number = index + 1;
        let _ = write!(page, "\n{:<INDENT$}", format!("{number}."));
        let confidence = finding.confidence.name();
        let words = format!("{} ({confidence} confidence)", sentence(finding));
        wrap(&mut page, INDENT, WIDTH, &words);
        for party in parties(finding) {
            say(&mut page, &where_(party));
        }
        say(&mut page, &format!("remedy: {}", finding.remedy));
        if let Some(file) = recording {
            let file = Clean(file.display());
            let _ = writeln!(
                page,
                "{:INDENT$}all of it: injector report {file} --finding {number}",
                ""
            );
        }
    }
    if recording.is_none() {
        page.push_str("\nTo keep the evidence of each, with all stacks: --record FILE\n");
    }
    page
}

fn say(page: &mut String, words: &str) {
    let _ = write!(page, "{:INDENT$}", "");
    wrap(page, INDENT, WIDTH, words);
}

/// The most important of those with another part each.
fn parties(finding: &Finding) -> Vec<&Party> {
    let mut shown: Vec<&Party> = Vec::new();
    for party in finding.parties.iter().filter(|party| party.place.is_some()) {
        let known = shown
            .iter()
            .any(|it| (it.role, &it.place) == (party.role, &party.place));
        if shown.len() < 2 && !known {
            shown.push(party);
        }
    }
    shown
}

fn where_(party: &Party) -> String {
    let mut text = maps_finding::role(party);
    if let Some(goroutine) = party.goroutine {
        let _ = write!(text, ", goroutine {goroutine}");
    }
    Clean(text).to_string()
}

fn sentence(finding: &Finding) -> String {
    let figure = |name| finding.figure(name);
    let what = finding.about.what;
    let name = called(&finding.about);
    match finding.claim {
        Claim::Overlap => format!(
            "Two goroutines were inside of {what} {name} at once, one of them writing: {} times",
            figure("overlaps")
        ),
        Claim::WriteDuringIteration => format!(
            "{what} {name} was written to while another goroutine went through it: in {} \
             iterations, {} writes and {} deletes",
            figure("iterations"),
            figure("assigns"),
            figure("deletes")
        ),
        Claim::Unordered => format!(
            "Nothing was seen that orders the {} goroutines that use {what} {name}: {} writes, \
             {} reads, {} times closely upon each other",
            figure("goroutines"),
            figure("writes"),
            figure("reads"),
            figure("close_calls")
        ),
        Claim::ChangeDuringOwnIteration => format!(
            "A goroutine added to {what} {name} while it went through it itself: in {} iterations",
            figure("iterations")
        ),
        Claim::RangeMissed => format!(
            "{what} {name} was changed during {} of {} calls of Range, which may have missed {} \
             stores",
            figure("ranges_disturbed"),
            figure("ranges"),
            figure("stores")
        ),
        Claim::Contention => {
            let total = figure("total_ns");
            let mut text = format!(
                "{} waits for {what} {name} took {} together, the longest {}",
                figure("waits"),
                Time(total),
                Time(figure("max_ns").max(figure("still_waiting_max_ns")))
            );
            let injected = figure("injected_ns");
            let sends = injected + figure("sending_ns");
            if sends > 0 {
                let percent = |part: u64| (part as f64 * 100.0 / total as f64).round();
                let _ = write!(
                    text,
                    ": {}% of it while the holder was in a send, {}% in injected delays",
                    percent(sends),
                    percent(injected)
                );
            }
            if figure("still_waiting") > 0 {
                let _ = write!(text, "; {} wait still", figure("still_waiting"));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::maps_fixture, *};
    use crate::explain::maps::Figure;

    fn blamed() -> (u32, Finding) {
        let mut finding = maps_fixture::finding();
        let figure = |name, value| Figure { name, value };
        finding.measured.extend([
            figure("injected_ns", 900_000_000),
            figure("sending_ns", 120_000_000),
        ]);
        (1, finding)
    }

    #[test]
    fn a_finding_says_what_who_and_what_helps() {
        let expected = "\
1 finding:

1.  31 waits for RWMutex main.(*Cache).mu took 1.2s together, the longest 90ms:
    85% of it while the holder was in a send, 75% in injected delays (high
    confidence)
    held in main.(*Cache).Refresh (cache.go:88), goroutine 42
    waited to read in main.(*Cache).Get (cache.go:31), goroutine 7
    remedy: do nothing slow under the lock: no send, no channel, no sleep, no
    file
    all of it: injector report run.injector --finding 1
";
        let page = page(&[blamed()], Some(Path::new("run.injector")));
        assert_eq!(page, expected);
    }

    #[test]
    fn ten_are_told_and_where_the_rest_is() {
        let page = page(&vec![blamed(); 12], None);
        assert!(page.starts_with("10 of 12 findings"), "{page}");
        assert!(
            page.contains("\n10. ") && !page.contains("\n11. "),
            "{page}"
        );
        assert!(page.contains("--record FILE"), "{page}");
        assert_eq!(super::page(&[], None), "no findings\n");
    }

    #[test]
    fn the_evidence_has_every_stack() {
        let mut text = Vec::new();
        let (pid, finding) = blamed();
        evidence(&mut text, pid, &finding).unwrap();
        let text = String::from_utf8(text).unwrap();
        for words in [
            "process 1",
            "contention: RWMutex",
            "/srv/cache.go:88",
            "/srv/cache.go:31",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn every_claim_has_a_sentence() {
        for claim in [
            Claim::Overlap,
            Claim::WriteDuringIteration,
            Claim::Unordered,
            Claim::ChangeDuringOwnIteration,
            Claim::RangeMissed,
        ] {
            let mut finding = maps_fixture::finding();
            finding.claim = claim;
            assert!(sentence(&finding).contains("main.(*Cache).mu"), "{claim:?}");
        }
    }
}
