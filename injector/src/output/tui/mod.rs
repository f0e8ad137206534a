//! The terminal UI: what is known of a run ([`Model`]), which part of it is looked
//! at ([`Ui`]), and how that is drawn. It knows neither the terminal nor the run.

mod draw;
mod ui;

use std::{collections::VecDeque, time::Duration};

use injector_ebpf::{Counter, Mode, SendRecord};

pub use draw::draw;
pub use ui::{Action, Ui};

use super::{bars, maps_finding, maps_table, text::Clean};
use crate::explain::{Confidence, SendView, Summary, Times, Totals, maps::Trace};

/// Seconds whose rates are kept: more than a wide terminal has columns.
const SECONDS: usize = 512;
/// Sends that are kept to be looked at.
const RECENT: usize = 500;
/// Lines of news that are kept.
const NEWS: usize = 500;
/// Maps, and locks, that have a row; of `sync.Map`s half as many.
const ROWS: usize = 100;
/// Findings that are shown.
const FINDINGS: usize = 20;

/// All that is shown.
#[derive(Debug, Default)]
pub struct Model {
    /// Whom the run is about.
    pub targets: String,
    /// How long it has lasted.
    pub elapsed: Duration,
    /// How long it will last at most.
    pub duration: Option<Duration>,
    /// What is done to sends; none if nothing can be.
    pub acting: Option<Acting>,
    /// The sends; none if they are not looked at.
    pub sends: Option<Sends>,
    /// The maps and locks; none if they are not looked at.
    pub program: Option<Program>,
    /// What the tool itself costs, and what it lost: names and values.
    pub cost: Vec<(String, String)>,
    /// What has happened; see [`Self::tell`].
    pub news: VecDeque<String>,
}

/// What is done to sends.
#[derive(Clone, Debug)]
pub struct Acting {
    /// The rule in the user's words.
    pub rule: String,
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// Whether every send is let through for now.
    pub paused: bool,
}

/// The sends of a run.
#[derive(Debug)]
pub struct Sends {
    start_ns: u64,
    totals: Totals,
    seen: VecDeque<u64>,
    delayed: VecDeque<u64>,
    figures: Vec<(&'static str, Figures)>,
    histogram: String,
    recent: VecDeque<SendRecord>,
}

/// A distribution in five numbers, times in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Figures {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

/// The maps and locks of a program, as text for a terminal.
#[derive(Debug, Default)]
pub struct Program {
    findings: Vec<(Confidence, String)>,
    maps: String,
    locks: String,
}

impl Model {
    /// Adds lines of what has happened; escapes in them are harmless.
    pub fn tell(&mut self, lines: &str) {
        for line in lines.lines() {
            if self.news.len() == NEWS {
                self.news.pop_front();
            }
            self.news.push_back(Clean(line).to_string());
        }
    }
}

impl Sends {
    /// Of a run that began at this monotonic time.
    pub fn new(start_ns: u64) -> Self {
        Self {
            start_ns,
            totals: Totals::default(),
            seen: VecDeque::with_capacity(SECONDS),
            delayed: VecDeque::with_capacity(SECONDS),
            figures: Vec::new(),
            histogram: String::new(),
            recent: VecDeque::with_capacity(RECENT),
        }
    }

    /// Adds a send; those that nothing was decided for are only counted.
    pub fn record(&mut self, record: &SendRecord) {
        let send = SendView::new(record);
        if send.chosen() || send.noteworthy() {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(*record);
        }
    }

    /// A second is over.
    pub fn second(&mut self, totals: Totals, summary: &Summary) {
        for (rates, counter) in [
            (&mut self.seen, Counter::Seen),
            (&mut self.delayed, Counter::Delayed),
        ] {
            if rates.len() == SECONDS {
                rates.pop_front();
            }
            let before = self.totals.get(counter);
            rates.push_back(totals.get(counter).saturating_sub(before));
        }
        self.totals = totals;
        let all = [
            ("asked", &summary.asked),
            ("delivered", &summary.delivered),
            ("off by", &summary.error),
            ("send alone", &summary.natural_baseline),
            (" if delayed", &summary.natural_delayed),
        ];
        let figures = all.iter().map(|(name, times)| (*name, Figures::of(times)));
        self.figures = figures
            .filter_map(|(name, figures)| Some((name, figures?)))
            .collect();
        self.histogram.clear();
        bars::side_by_side(&mut self.histogram, &all[..2]);
    }
}

impl Figures {
    /// None of nothing.
    fn of(times: &Times) -> Option<Self> {
        Some(Self {
            count: times.count(),
            p50: times.quantile(0.5)?,
            p90: times.quantile(0.9)?,
            p99: times.quantile(0.99)?,
            max: times.max()?,
        })
    }
}

impl Program {
    /// What is concluded now.
    pub fn of(trace: &Trace) -> Self {
        let (mut maps, mut locks) = (String::new(), String::new());
        maps_table::maps(&mut maps, &trace.maps(ROWS));
        maps_table::sync_maps(&mut maps, &trace.sync_maps(ROWS / 2));
        maps_table::locks(&mut locks, &trace.locks(ROWS));
        let findings = trace.findings().into_iter().take(FINDINGS);
        Self {
            findings: findings
                .map(|finding| (finding.confidence, maps_finding::page(&finding)))
                .collect(),
            maps,
            locks,
        }
    }
}

#[cfg(test)]
mod tests;
