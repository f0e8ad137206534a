//! A conclusion about maps and locks: text for people, or one JSON object whose
//! fields are in `docs/json.md`.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    json_line,
    text::{Clean, wrap},
    units::Time,
};
use crate::{
    explain::maps::{About, Figure, Finding, Party},
    go,
};

/// Columns of the text.
const WIDTH: usize = 80;
/// Where the text begins beside the labels.
const INDENT: usize = 11;
/// Parties in the text; JSON has all.
const SHOWN: usize = 4;

/// What a finding or a row is about.
#[derive(Debug, Serialize)]
pub(super) struct Subject {
    what: &'static str,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_use: Option<Frame>,
}

/// A place in the program.
#[derive(Debug, Serialize)]
pub(super) struct Frame {
    function: String,
    file: String,
    line: u32,
}

/// Somebody who took part.
#[derive(Debug, Serialize)]
pub(super) struct Side {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_as: Option<String>,
    count: u64,
    total_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Frame>,
    stack: Vec<Frame>,
}

#[derive(Debug, Serialize)]
struct Measured {
    figure: &'static str,
    value: u64,
}

#[derive(Debug, Serialize)]
struct SeenShare {
    operations: &'static str,
    share: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Conclusion<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: u32,
    claim: &'static str,
    confidence: &'static str,
    about: Subject,
    measured: Vec<Measured>,
    inferred: &'a [String],
    seen: Vec<SeenShare>,
    why: &'a [String],
    remedy: &'static str,
    parties: Vec<Side>,
}

impl From<&go::Frame> for Frame {
    fn from(frame: &go::Frame) -> Self {
        Self {
            function: frame.function.clone(),
            file: frame.file.clone(),
            line: frame.line,
        }
    }
}

impl From<&About> for Subject {
    fn from(about: &About) -> Self {
        Self {
            what: about.what,
            address: format!("{:#x}", about.address),
            name: about.name.clone(),
            type_name: about.type_name.clone(),
            first_use: about.first_use.as_ref().map(Frame::from),
        }
    }
}

impl From<&Party> for Side {
    fn from(party: &Party) -> Self {
        Self {
            role: party.role,
            goroutine: party.goroutine,
            started_as: party.started_as.clone(),
            count: party.count,
            total_ns: party.total_ns,
            place: party.place.as_ref().map(Frame::from),
            stack: party.stack.iter().map(Frame::from).collect(),
        }
    }
}

impl<'a> Conclusion<'a> {
    pub(super) fn new(pid: u32, finding: &'a Finding) -> Self {
        let measured = finding.measured.iter().map(|it| Measured {
            figure: it.name,
            value: it.value,
        });
        let seen = finding.seen.iter().map(|it| SeenShare {
            operations: it.what,
            share: it.share,
        });
        Self {
            kind: "map_finding",
            pid,
            claim: finding.claim.name(),
            confidence: finding.confidence.name(),
            about: Subject::from(&finding.about),
            measured: measured.collect(),
            inferred: &finding.inferred,
            seen: seen.collect(),
            why: &finding.why,
            remedy: finding.remedy,
            parties: finding.parties.iter().map(Side::from).collect(),
        }
    }
}

/// Writes one JSON object in a line.
pub fn json(out: &mut dyn Write, pid: u32, finding: &Finding) -> io::Result<()> {
    json_line(out, &Conclusion::new(pid, finding))
}

/// Writes it for people.
pub fn text(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    out.write_all(page(finding).as_bytes())
}

/// The best short name that there is.
pub(super) fn called(about: &About) -> String {
    let kind = about.type_name.as_deref().unwrap_or_default();
    let name = match (&about.name, &about.first_use) {
        (Some(name), _) => format!("{name} {kind}"),
        (None, Some(at)) => format!("{kind} of {}:{}", at.function, at.line),
        (None, None) => format!("{kind} at {:#x}", about.address),
    };
    Clean(name.trim()).to_string()
}

/// The finding for people.
pub fn page(finding: &Finding) -> String {
    page_with(finding, SHOWN)
}

/// All that is known of it, with the stack of each party.
pub(super) fn whole(finding: &Finding) -> String {
    let mut page = page_with(finding, usize::MAX);
    for party in &finding.parties {
        let _ = writeln!(page, "\n  {}", who(party));
        for frame in &party.stack {
            let _ = writeln!(
                page,
                "    {}\n      {}:{}",
                Clean(&frame.function),
                Clean(&frame.file),
                frame.line
            );
        }
    }
    page
}

fn page_with(finding: &Finding, shown: usize) -> String {
    let mut page = String::new();
    let heading = format!(
        "{}: {} {} ({} confidence)",
        finding.claim.name().replace('_', " "),
        finding.about.what,
        called(&finding.about),
        finding.confidence.name()
    );
    wrap(&mut page, 0, WIDTH, &heading);
    let measured: Vec<_> = finding.measured.iter().filter_map(figure).collect();
    label(&mut page, "measured", &measured.join(", "));
    for (index, party) in finding.parties.iter().take(shown).enumerate() {
        label(&mut page, if index == 0 { "who" } else { "" }, &who(party));
    }
    for (index, text) in finding.inferred.iter().enumerate() {
        label(&mut page, if index == 0 { "inferred" } else { "" }, text);
    }
    for (index, text) in finding.why.iter().enumerate() {
        label(&mut page, if index == 0 { "why" } else { "" }, text);
    }
    if !finding.seen.is_empty() {
        let seen: Vec<_> = finding
            .seen
            .iter()
            .map(|it| format!("{} {:.1}%", it.what, it.share * 100.0))
            .collect();
        let seen = format!("{} of the time", seen.join(", "));
        label(&mut page, "seen", &seen);
    }
    label(&mut page, "remedy", finding.remedy);
    page
}

/// In words; nothing of what there was none of.
fn figure(figure: &Figure) -> Option<String> {
    if figure.value == 0 {
        return None;
    }
    Some(match figure.name.strip_suffix("_ns") {
        Some(name) => format!("{} {}", name.replace('_', " "), Time(figure.value)),
        None => format!("{} {}", figure.name.replace('_', " "), figure.value),
    })
}

/// What somebody did, and where.
pub(super) fn role(party: &Party) -> String {
    let mut text = party.role.to_owned();
    if let Some(place) = &party.place {
        let file = place.file.rsplit('/').next().unwrap_or_default();
        let _ = write!(text, " in {} ({file}:{})", place.function, place.line);
    }
    text
}

fn who(party: &Party) -> String {
    let mut text = role(party);
    if party.count > 0 {
        let _ = write!(text, ", {} times", party.count);
    }
    if party.total_ns > 0 {
        let _ = write!(text, ", {}", Time(party.total_ns));
    }
    if let Some(goroutine) = party.goroutine {
        let _ = write!(text, "; goroutine {goroutine}");
    }
    if let Some(start) = &party.started_as {
        let _ = write!(text, " ({start})");
    }
    Clean(text).to_string()
}

fn label(page: &mut String, label: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    let _ = write!(page, "  {label:<width$}", width = INDENT - 2);
    wrap(page, INDENT, WIDTH, text);
}

#[cfg(test)]
mod tests {
    use super::{
        super::{documented, maps_fixture},
        *,
    };

    const HEADING: &str = "## The lines of `injector maps`: `map_finding`\n";

    #[test]
    fn people_read_who_did_what_how_sure_it_is_and_what_helps() {
        let finding = maps_fixture::finding();
        let expected = "\
contention: RWMutex main.(*Cache).mu (high confidence)
  measured waits 31, total 1.2s, p50 20ms, max 90ms
  who      held in main.(*Cache).Refresh (cache.go:88), 12 times, 1.1s;
           goroutine 42 (main.refresher)
           waited to read in main.(*Cache).Get (cache.go:31), 31 times, 1.2s;
           goroutine 7
  inferred guards main.(*Cache).items (high confidence: fields mu and items of
           one struct; 30 times used after the lock was got)
  why      each of these waits was seen to begin and to end
  seen     reads 12.5% of the time
  remedy   do nothing slow under the lock: no send, no channel, no sleep, no
           file
";
        assert_eq!(page(&finding), expected);
    }

    #[test]
    fn the_document_has_every_field() {
        let mut finding = maps_fixture::finding();
        finding.about.type_name = Some("inside sync.Map".to_owned());
        let written = serde_json::to_value(Conclusion::new(1, &finding)).unwrap();
        assert_eq!(documented::keys(&written), documented::names(HEADING));
    }
}
