//! The report at the end of a run, as text.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use injector_ebpf::{Counter, Mode};

use super::errno::NameOrNumber;
use super::line::Table;
use super::text::{Clean, wrap};
use super::units::{Time, percent};
use super::{bars, mode_name, nanoseconds};
use crate::explain::{RunInfo, Summary, Tally, Times, Totals};

/// Columns of everything but the worst sends.
const WIDTH: usize = 79;

/// Processes that are named one by one.
const PROCESSES: usize = 8;

/// Writes the report. With `explain` each block ends with a sentence on each of
/// its numbers.
pub fn write(
    out: &mut dyn Write,
    info: &RunInfo,
    summary: &Summary,
    totals: &Totals,
    explain: bool,
) -> io::Result<()> {
    let report = Report {
        text: String::new(),
        notes: Vec::new(),
        info,
        summary,
        totals,
        explain,
    };
    out.write_all(report.write().as_bytes())
}

struct Report<'a> {
    text: String,
    notes: Vec<(&'static str, String)>,
    info: &'a RunInfo,
    summary: &'a Summary,
    totals: &'a Totals,
    explain: bool,
}

/// Appends a line. Writing to a string does not fail.
macro_rules! say {
    ($report:expr, $($format:tt)*) => {
        { let _ = writeln!($report.text, $($format)*); }
    };
}

impl Report<'_> {
    fn write(mut self) -> String {
        self.header();
        self.sends();
        if self.summary.total.sends > 0 {
            self.delays();
            self.natural();
            self.who();
            self.results();
            self.worst();
        }
        self.suppressed();
        self.lost();
        self.cpu();
        self.text
    }

    fn shadow(&self) -> bool {
        self.info.mode == Mode::Shadow
    }

    fn title(&mut self, title: impl Display) {
        say!(self, "\n{title}");
    }

    /// Remembers a sentence for the end of the block.
    fn note(&mut self, name: &'static str, sentence: impl Into<String>) {
        if self.explain {
            self.notes.push((name, sentence.into()));
        }
    }

    fn notes(&mut self) {
        if !self.notes.is_empty() {
            self.text.push('\n');
        }
        for (name, sentence) in std::mem::take(&mut self.notes) {
            self.labelled(4, 18, name, &sentence.replace('`', ""));
        }
    }

    /// A label and a text that is wrapped beside it.
    fn labelled(&mut self, indent: usize, width: usize, label: &str, text: &str) {
        let _ = write!(self.text, "{:indent$}{label:width$} ", "");
        let label = label.chars().count().max(width);
        let before = self.text.len();
        wrap(&mut self.text, indent + label + 1, WIDTH, text);
        if self.text[before..].trim().is_empty() {
            self.text.truncate(before);
            self.text.push_str("-\n");
        }
    }

    fn header(&mut self) {
        say!(
            self,
            "injector: {} in {} mode",
            Time(nanoseconds(self.info.elapsed)),
            mode_name(self.info.mode)
        );
        let info = self.info;
        self.labelled(2, 8, "targets", &Clean(&info.targets).to_string());
        for (index, rule) in info.rules.iter().enumerate() {
            let label = match info.rules.len() {
                1 => "rule".to_owned(),
                _ => format!("rule {index}"),
            };
            self.labelled(2, 8, &label, &Clean(rule).to_string());
        }
        self.labelled(2, 8, "seed", &info.seed.to_string());
        self.labelled(2, 8, "hook", &Clean(&info.hook).to_string());
        self.labelled(2, 8, "engine", &Clean(&info.engine).to_string());
        self.labelled(2, 8, "ended", &Clean(&info.ended).to_string());
        if self.shadow() {
            say!(
                self,
                "\nShadow mode: nothing was done to any send. What follows is what would have\nbeen."
            );
        }
    }

    fn count(&mut self, name: &str, value: u64, share: Option<(u64, &str)>) {
        let share = share.and_then(|(whole, of)| Some((percent(value, whole)?, of)));
        match share {
            Some((share, of)) => say!(self, "  {name:<20}{value:>10}  {share:>6} of {of}"),
            None => say!(self, "  {name:<20}{value:>10}"),
        }
    }

    fn counter(&mut self, name: &'static str, counter: Counter, share: Option<(Counter, &str)>) {
        let share = share.map(|(whole, of)| (self.totals.get(whole), of));
        self.count(name, self.totals.get(counter), share);
        self.note(name, Totals::meaning(counter));
    }

    fn sends(&mut self) {
        self.title("Sends");
        let recorded = self.summary.total.sends;
        let seen = self.totals.get(Counter::Seen);
        if seen == 0 && recorded == 0 {
            say!(self, "  none: no target sent anything that the hook sees");
            return;
        }
        self.counter("seen", Counter::Seen, None);
        self.counter("matched", Counter::Matched, Some((Counter::Seen, "seen")));
        self.counter(
            "chosen",
            Counter::Chosen,
            Some((Counter::Matched, "matched")),
        );
        let acted = |value: u64| !self.shadow() || value > 0;
        let chosen = Some((Counter::Chosen, "chosen"));
        let flagged = Some((Counter::Flagged, "flagged"));
        let delayed = acted(self.totals.get(Counter::Delayed));
        let failed = acted(self.totals.get(Counter::Failed));
        let signalled = acted(self.totals.get(Counter::Signalled));
        let shadowed = self.shadow() || self.totals.get(Counter::Shadowed) > 0;
        if delayed {
            self.counter("delayed", Counter::Delayed, chosen);
        }
        if self.totals.get(Counter::Capped) > 0 {
            let share = Some((Counter::Delayed, "delayed"));
            self.counter("capped", Counter::Capped, share);
        }
        for (name, counter) in [
            ("shortened", Counter::Shortened),
            ("spun: all slots taken", Counter::SleepersFull),
            ("spun: sleep refused", Counter::SleepsRefused),
        ] {
            if self.totals.get(counter) > 0 {
                let share = Some((Counter::Delayed, "delayed"));
                self.counter(name, counter, share);
            }
        }
        if shadowed {
            self.counter("shadowed", Counter::Shadowed, chosen);
            self.would();
        }
        let share = Some((Counter::Matched, "matched"));
        self.counter("flagged", Counter::Flagged, share);
        if failed {
            self.counter("failed", Counter::Failed, chosen);
        }
        if signalled {
            self.counter("signalled", Counter::Signalled, flagged);
        }
        self.notes();
        if recorded != seen {
            say!(
                self,
                "\n  What follows is of the {recorded} sends that have a record."
            );
        }
    }

    /// What shadow mode left out, as far as records tell.
    fn would(&mut self) {
        let Tally {
            shadowed,
            would_delay,
            would_fail,
            would_signal,
            would_suppress,
            flagged,
            ..
        } = self.summary.total;
        let share = Some((shadowed, "shadowed"));
        self.count("would be delayed", would_delay, share);
        self.note(
            "would be delayed",
            "Shadowed sends that a delay was decided for, and no guard forbade it.",
        );
        for (name, count, share, meaning) in [
            (
                "would be failed",
                would_fail,
                share,
                "Shadowed sends that an errno was decided for, and no guard forbade it.",
            ),
            (
                "would be signalled",
                would_signal,
                Some((flagged, "flagged")),
                "Sends that passed the threshold of a rule that sends a signal, and no guard forbade it.",
            ),
            (
                "would be let through",
                would_suppress,
                share,
                "Shadowed sends that a guard would have kept from being acted on.",
            ),
        ] {
            if count > 0 {
                self.count(name, count, share);
                self.note(name, meaning);
            }
        }
    }

    fn percentiles(&mut self, rows: &[(&'static str, &Times)]) {
        say!(
            self,
            "  {:<14}{:>10} {:>9} {:>9} {:>9} {:>9}",
            "",
            "n",
            "p50",
            "p90",
            "p99",
            "max"
        );
        for (name, times) in rows {
            let named = [0.5, 0.9, 0.99].map(|share| times.quantile(share));
            match (named, times.max()) {
                ([Some(p50), Some(p90), Some(p99)], Some(max)) => {
                    let [p50, p90, p99, max] =
                        [p50, p90, p99, max].map(|time| Time(time).to_string());
                    let n = times.count();
                    say!(
                        self,
                        "  {name:<14}{n:>10} {p50:>9} {p90:>9} {p99:>9} {max:>9}"
                    );
                }
                _ => say!(self, "  {name:<14}{:>10}", "none"),
            }
        }
    }

    fn delays(&mut self) {
        let summary = self.summary;
        if self.shadow() {
            self.title("Delay that would have been");
        } else {
            self.title("Delay");
        }
        self.percentiles(&[
            ("asked", &summary.asked),
            ("delivered", &summary.delivered),
            ("off by", &summary.error),
        ]);
        if summary.early > 0 {
            let early = summary.early;
            let n = summary.error.count();
            say!(self, "\n  {early} of {n} delays ended early.");
        }
        self.text.push('\n');
        bars::side_by_side(
            &mut self.text,
            &[("asked", &summary.asked), ("delivered", &summary.delivered)],
        );
        if self.text.ends_with("\n\n") {
            self.text.pop();
        }
        self.note("n", "How many sends the line is about.");
        self.note(
            "p50, p90, p99",
            "Half, 90 % and 99 % of those sends took no longer than this.",
        );
        self.note("max", "The longest.");
        self.note(
            "asked",
            "The delay that the rule decided for a chosen send, also when a guard or shadow mode \
             kept it from being given.",
        );
        self.note("delivered", "The delay that was measured.");
        self.note(
            "off by",
            "How far a delivered delay was from the asked one. Delays that the engine's ceiling \
             cut short are not in it.",
        );
        self.notes();
    }

    fn natural(&mut self) {
        let summary = self.summary;
        self.title("Time of the send itself, without the delay");
        let both: [(&'static str, &Times); 2] = [
            ("baseline", &summary.natural_baseline),
            ("injected", &summary.natural_delayed),
        ];
        self.percentiles(&both);
        self.text.push('\n');
        bars::side_by_side(&mut self.text, &both);
        if self.text.ends_with("\n\n") {
            self.text.pop();
        }
        self.note(
            "baseline",
            "Sends that were not delayed: what is usual here.",
        );
        self.note(
            "injected",
            "Sends that were delayed. A difference to the baseline is what the delay did to the \
             sends besides making them wait.",
        );
        self.notes();
    }

    fn who(&mut self) {
        let summary = self.summary;
        let processes = summary.processes();
        self.title("Who sent");
        let (acted, time) = if self.shadow() {
            ("shadowed", "asked")
        } else {
            ("delayed", "delay")
        };
        say!(
            self,
            "  {:<23} {:>9} {:>9} {acted:>9} {:>8} {:>7} {time:>6}",
            "",
            "sends",
            "matched",
            "flagged",
            "failed"
        );
        for process in processes.iter().take(PROCESSES) {
            let name = format!("{} ({})", Clean(process.comm()), process.tgid);
            self.tally(&name, &process.tally);
        }
        let mut others = summary.other_processes;
        for process in processes.iter().skip(PROCESSES) {
            others.merge(&process.tally);
        }
        if others.sends > 0 {
            self.tally("other processes", &others);
        }
        for (protocol, tally) in summary.protocols() {
            let name = protocol.map_or("unknown", injector_ebpf::Protocol::name);
            self.tally(name, tally);
        }
        if self.info.rules.len() > 1 {
            for (rule, tally) in summary.rules() {
                let name = rule.map_or_else(|| "unknown rule".to_owned(), |n| format!("rule {n}"));
                self.tally(&name, tally);
            }
        }
        if self.shadow() {
            self.note("asked", "All delay together that would have been given.");
        } else {
            self.note("delay", "All delay together that was given.");
        }
        self.notes();
    }

    fn tally(&mut self, name: &str, tally: &Tally) {
        let (acted, ns) = if self.shadow() {
            (tally.shadowed, tally.asked_ns)
        } else {
            (tally.delayed, tally.delivered_ns)
        };
        let time = match ns {
            0 => "none".to_owned(),
            ns => Time(ns).to_string(),
        };
        let Tally {
            sends,
            matched,
            flagged,
            failed,
            ..
        } = tally;
        say!(
            self,
            "  {name:<23} {sends:>9} {matched:>9} {acted:>9} {flagged:>8} {failed:>7} {time:>6}"
        );
    }

    fn results(&mut self) {
        let total = self.summary.total;
        self.title("What the callers got");
        let whole = Some((total.sends, "sends"));
        self.count("sent", total.sends - total.errors, whole);
        for (errno, outcome) in self.summary.errnos() {
            let name = errno.map_or_else(|| "no errno".to_owned(), |n| NameOrNumber(n).to_string());
            if outcome.own > 0 {
                self.count(&name, outcome.own, whole);
            }
            if outcome.injected > 0 {
                self.count(&format!("{name}, injected"), outcome.injected, whole);
            }
        }
        self.note("sent", "The send returned without an error.");
        self.note(
            "an errno",
            "The send returned this error by itself; EAGAIN is usual on sockets that do not block.",
        );
        self.note("injected", "The rule's error, returned instead of sending.");
        self.notes();
    }

    fn worst(&mut self) {
        let worst = self.summary.worst();
        self.title(if self.shadow() {
            "Worst sends, with the delay that would have been"
        } else {
            "Worst sends"
        });
        if worst.is_empty() {
            say!(self, "  none: no send has times");
            return;
        }
        let mut table = Table::new(false);
        self.text.push_str(table.header());
        for record in worst {
            self.text.push_str(table.row(record, self.info.start_ns));
        }
        self.note("TIME", "Seconds since the start of the run.");
        self.note("ASKED, DELIV", "The delay that was decided, and measured.");
        self.note("SEND", "The time that the send itself took.");
        self.notes();
    }

    fn suppressed(&mut self) {
        self.title(if self.shadow() {
            "Would have been suppressed by guards"
        } else {
            "Suppressed by guards"
        });
        self.listed(
            self.totals.guards().collect(),
            "none: no guard had to step in",
        );
    }

    fn lost(&mut self) {
        self.title("Lost");
        let mut rows: Vec<_> = self.totals.losses().collect();
        if self.info.in_flight > 0 {
            rows.push((
                "in_flight",
                "Sends that had not returned when the run ended: no record.",
                self.info.in_flight,
            ));
        }
        if self.info.skipped > 0 {
            rows.push((
                "programs_skipped",
                "Times the kernel left out a program that was running on that CPU: a send, of any \
                 process, may not have been seen.",
                self.info.skipped,
            ));
        }
        let no_start = self.summary.total.no_start;
        if no_start > 0 {
            rows.push((
                "no_start",
                "Sends whose start was not seen: counted, without times.",
                no_start,
            ));
        }
        self.listed(rows, "nothing");
    }

    fn listed(&mut self, rows: Vec<(&'static str, &'static str, u64)>, nothing: &str) {
        if rows.is_empty() {
            say!(self, "  {nothing}");
        }
        for (name, meaning, value) in rows {
            let label = format!("{name:<20}{value:>10}");
            self.labelled(2, 31, &label, &meaning.replace('`', ""));
        }
    }

    fn cpu(&mut self) {
        self.title("CPU time");
        let spin = self.totals.get(Counter::SpinNs);
        self.cpu_row("spin engine", (spin > 0).then_some(spin), "none");
        let own = self.info.own_cpu.map(nanoseconds);
        self.cpu_row("injector itself", own, "not measured");
        self.note(
            "spin engine",
            "CPU time that delayed threads burnt while they waited.",
        );
        self.note(
            "injector itself",
            "CPU time of the process that loaded the hooks and read the records.",
        );
        self.notes();
    }

    fn cpu_row(&mut self, name: &str, ns: Option<u64>, missing: &str) {
        let Some(ns) = ns else {
            say!(self, "  {name:<20}{missing:>12}");
            return;
        };
        let time = Time(ns).to_string();
        match percent(ns, nanoseconds(self.info.elapsed)) {
            Some(share) => say!(self, "  {name:<20}{time:>12}  {share:>6} of one CPU"),
            None => say!(self, "  {name:<20}{time:>12}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::SendRecord;
    use proptest::prelude::*;

    use super::super::fixture as run;
    use super::*;
    use crate::explain::fixture;

    fn text(info: &RunInfo, summary: &Summary, totals: &Totals, explain: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, info, summary, totals, explain).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn report(mode: Mode, explain: bool) -> String {
        let (summary, totals) = run::run(mode);
        text(&run::info(mode), &summary, &totals, explain)
    }

    fn of(mode: Mode, records: &[SendRecord]) -> String {
        let summary = fixture::summary(records);
        text(&run::info(mode), &summary, &run::totals(&summary), false)
    }

    /// Lines of the worst sends may be wider.
    fn too_wide(report: &str) -> Option<&str> {
        let mut worst = false;
        report.lines().find(|line| {
            worst = (worst || line.starts_with("Worst sends")) && !line.is_empty();
            line.chars().count() > if worst { 100 } else { WIDTH }
        })
    }

    #[test]
    fn a_run_that_acts() {
        let report = report(Mode::Enforce, false);
        assert_eq!(report, include_str!("golden/enforce.txt"), "{report}");
    }

    #[test]
    fn a_run_in_shadow_mode() {
        let report = report(Mode::Shadow, false);
        assert_eq!(report, include_str!("golden/shadow.txt"), "{report}");
    }

    #[test]
    fn a_run_that_is_explained() {
        let report = report(Mode::Enforce, true);
        assert_eq!(report, include_str!("golden/explain.txt"), "{report}");
    }

    #[test]
    fn explanations_are_added_and_change_nothing() {
        for mode in [Mode::Enforce, Mode::Shadow] {
            let explained = report(mode, true);
            let mut lines = explained.lines();
            for line in report(mode, false).lines() {
                assert!(lines.any(|explained| explained == line), "{line}");
            }
        }
    }

    #[test]
    fn lines_are_not_too_wide() {
        for mode in [Mode::Enforce, Mode::Shadow] {
            for explain in [false, true] {
                assert_eq!(too_wide(&report(mode, explain)), None);
            }
        }
    }

    #[test]
    fn a_run_without_sends_names_no_numbers() {
        let mut info = run::info(Mode::Enforce);
        info.own_cpu = None;
        info.in_flight = 0;
        info.skipped = 0;
        let report = text(&info, &Summary::default(), &Totals::default(), true);
        assert_eq!(
            report.split_once("\n\n").unwrap().1,
            "Sends
  none: no target sent anything that the hook sees

Suppressed by guards
  none: no guard had to step in

Lost
  nothing

CPU time
  spin engine                 none
  injector itself     not measured

    spin engine        CPU time that delayed threads burnt while they waited.
    injector itself    CPU time of the process that loaded the hooks and read
                       the records.
"
        );
    }

    #[test]
    fn a_run_without_delays_has_none() {
        let report = of(Mode::Enforce, &[fixture::send()]);
        for line in ["asked", "delivered", "off by", "injected"] {
            let none = format!("  {line:<14}      none\n");
            assert!(report.contains(&none), "{line}: {report}");
        }
        assert!(
            report.contains("\n  baseline               1       5us"),
            "{report}"
        );
    }

    #[test]
    fn sends_without_times_have_no_times() {
        let lost = SendRecord {
            flags: injector_ebpf::flags::NO_START,
            ..fixture::delayed(7, 7, 7)
        };
        let report = of(Mode::Enforce, &[lost]);
        assert!(report.contains("  none: no send has times\n"), "{report}");
        assert!(
            report.contains("\n  no_start                     1  "),
            "{report}"
        );
        assert!(!report.contains("7ns"), "{report}");
    }

    #[test]
    fn many_processes_are_summed_up() {
        let records: Vec<_> = (0..30)
            .map(|tgid| SendRecord {
                tgid,
                ..fixture::send()
            })
            .collect();
        let report = of(Mode::Enforce, &records);
        let others = format!("  {:<23} {:>9}", "other processes", 30 - PROCESSES);
        assert!(report.contains(&others), "{report}");
    }

    #[test]
    fn rules_are_told_apart_when_there_are_several() {
        let mut info = run::info(Mode::Enforce);
        info.rules.push("error ECONNRESET".to_owned());
        let (mut summary, totals) = run::run(Mode::Enforce);
        summary.record(&SendRecord {
            rule: 1,
            ..fixture::send()
        });
        let report = text(&info, &summary, &totals, false);
        assert!(
            report.contains("\n  rule 1   error ECONNRESET\n"),
            "{report}"
        );
        let row = format!("\n  {:<23} {:>9}", "rule 1", 1);
        assert!(report.contains(&row), "{report}");
    }

    #[test]
    fn early_delays_are_said() {
        let report = of(Mode::Enforce, &[fixture::delayed(1_000, 900, 5)]);
        assert!(
            report.contains("\n  1 of 1 delays ended early.\n"),
            "{report}"
        );
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        let (summary, totals) = run::run(Mode::Enforce);
        let info = run::info(Mode::Enforce);
        let error = write(&mut run::Closed, &info, &summary, &totals, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        // Each case goes through all cells of five histograms.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_records_have_a_clean_report(
            records in prop::collection::vec(fixture::any_record(), 0..60),
            shadow in any::<bool>(),
            targets in any::<String>(),
        ) {
            let summary = fixture::summary(&records);
            let mut info = run::info(if shadow { Mode::Shadow } else { Mode::Enforce });
            info.targets = targets;
            let report = text(&info, &summary, &run::totals(&summary), true);
            prop_assert!(!report.chars().any(|c| c.is_control() && c != '\n'));
            prop_assert!(report.ends_with('\n') && !report.contains("\n\n\n"));
            prop_assert!(report.lines().all(|line| line == line.trim_end()));
        }
    }
}
