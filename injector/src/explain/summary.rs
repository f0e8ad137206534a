//! What a run did, in bounded memory: fed one record at a time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use injector_ebpf::{COMM_LEN, MAX_RULES, Protocol, SendRecord, Verdict, flags};

use super::{Lossy, SendView, Times};

/// Sends that are kept whole because they took longest.
const WORST: usize = 10;

/// Processes that are counted one by one.
const PROCESSES: usize = 512;

/// Errnos that are counted one by one: `MAX_ERRNO` of `include/linux/err.h`.
const ERRNOS: usize = 4095;

/// Protocols of the ABI, and one place for a number that it does not know.
const PROTOCOLS: usize = Protocol::ALL.len() + 1;

/// Rules of the ABI, and one place for a number that it does not know.
const RULES: usize = MAX_RULES as usize + 1;

/// Counts of sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All sends.
    pub sends: u64,
    /// Sends that the rule's filters let through.
    pub matched: u64,
    /// Sends that the rule chose.
    pub chosen: u64,
    /// Chosen sends that a guard let through.
    pub suppressed: u64,
    /// Chosen sends that were only recorded.
    pub shadowed: u64,
    /// Sends that were delayed.
    pub delayed: u64,
    /// Delays that the engine's ceiling cut short.
    pub capped: u64,
    /// Sends that passed the threshold.
    pub flagged: u64,
    /// Sends that were failed with an errno.
    pub failed: u64,
    /// Sends that a signal was sent for.
    pub signalled: u64,
    /// Shadowed sends that would have been delayed.
    pub would_delay: u64,
    /// Shadowed sends that would have been failed.
    pub would_fail: u64,
    /// Sends in shadow mode that a signal would have been sent for: shadowed ones, and
    /// those that were slow by themselves.
    pub would_signal: u64,
    /// Shadowed sends that a guard would have let through.
    pub would_suppress: u64,
    /// Sends that returned an errno, ours or the kernel's own.
    pub errors: u64,
    /// Sends whose start was not seen, so that they have no times.
    pub no_start: u64,
    /// Delay that was asked for.
    pub asked_ns: u64,
    /// Delay that was delivered.
    pub delivered_ns: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
}

impl Tally {
    fn add(&mut self, send: SendView<'_>) {
        let shadowed = send.shadowed();
        let suppressed = send.verdict() == Some(Verdict::Suppressed);
        self.sends += 1;
        self.matched += u64::from(send.matched());
        self.chosen += u64::from(send.chosen());
        self.suppressed += u64::from(suppressed);
        self.shadowed += u64::from(shadowed);
        self.delayed += u64::from(send.delayed());
        self.capped += u64::from(send.has(flags::CAPPED));
        self.flagged += u64::from(send.has(flags::FLAGGED));
        self.failed += u64::from(send.failed());
        self.signalled += u64::from(send.signalled());
        let free = send.guard().is_none();
        self.would_delay += u64::from(shadowed && free && send.asked().is_some());
        self.would_fail += u64::from(shadowed && free && send.has(flags::FAILED));
        self.would_signal += u64::from(send.would_signal());
        self.would_suppress += u64::from(shadowed && !free);
        self.errors += u64::from(send.errno().is_some());
        self.no_start += u64::from(!send.timed());
        let sum = |sum: &mut u64, more: Option<u64>| *sum = sum.saturating_add(more.unwrap_or(0));
        sum(&mut self.asked_ns, send.asked());
        sum(&mut self.delivered_ns, send.delivered());
        sum(&mut self.sent_bytes, send.sent_bytes());
    }

    /// Adds the counts of other sends.
    pub fn merge(&mut self, other: &Self) {
        // Taken apart, so that a new field cannot be forgotten.
        let Self {
            sends,
            matched,
            chosen,
            suppressed,
            shadowed,
            delayed,
            capped,
            flagged,
            failed,
            signalled,
            would_delay,
            would_fail,
            would_signal,
            would_suppress,
            errors,
            no_start,
            asked_ns,
            delivered_ns,
            sent_bytes,
        } = other;
        for (sum, more) in [
            (&mut self.sends, sends),
            (&mut self.matched, matched),
            (&mut self.chosen, chosen),
            (&mut self.suppressed, suppressed),
            (&mut self.shadowed, shadowed),
            (&mut self.delayed, delayed),
            (&mut self.capped, capped),
            (&mut self.flagged, flagged),
            (&mut self.failed, failed),
            (&mut self.signalled, signalled),
            (&mut self.would_delay, would_delay),
            (&mut self.would_fail, would_fail),
            (&mut self.would_signal, would_signal),
            (&mut self.would_suppress, would_suppress),
            (&mut self.errors, errors),
            (&mut self.no_start, no_start),
            (&mut self.asked_ns, asked_ns),
            (&mut self.delivered_ns, delivered_ns),
            (&mut self.sent_bytes, sent_bytes),
        ] {
            *sum = sum.saturating_add(*more);
        }
    }
}

/// Sends of one process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Process id.
    pub tgid: u32,
    comm: [u8; COMM_LEN],
    /// Its sends.
    pub tally: Tally,
}

impl Process {
    /// Name of its main thread, or of the thread that sent first while the main
    /// thread has sent nothing.
    pub fn comm(&self) -> Lossy<'_> {
        Lossy::until_nul(&self.comm)
    }
}

/// How often an errno was returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Because a rule asked for it.
    pub injected: u64,
    /// By the kernel itself.
    pub own: u64,
}

/// All that is known of a run's sends.
///
/// Takes 1.5 MiB at most whatever it is fed: five [`Times`] of 264 KiB, a table
/// of errnos of 64 KiB, and up to 512 processes. Nothing is allocated per
/// record.
#[derive(Debug)]
pub struct Summary {
    /// All sends.
    pub total: Tally,
    /// Delays that were decided, also those that a guard suppressed or shadow
    /// mode left out.
    pub asked: Times,
    /// Delays that were given.
    pub delivered: Times,
    /// How far delivered delays were from what was asked, in either direction;
    /// without those that the engine's ceiling cut short.
    pub error: Times,
    /// Delays in `error` that were too short.
    pub early: u64,
    /// Time that delayed sends took by themselves.
    pub natural_delayed: Times,
    /// Time that sends took which were not delayed: the baseline.
    pub natural_baseline: Times,
    /// When the first send with times began, and when the last one ended.
    pub span: Option<(u64, u64)>,
    /// Sends of processes that came when the table of processes was full.
    pub other_processes: Tally,
    protocols: [Tally; PROTOCOLS],
    rules: [Tally; RULES],
    processes: HashMap<u32, Process>,
    /// Indexed by errno; index 0 holds what is none.
    errnos: Vec<Outcome>,
    worst: BinaryHeap<Reverse<Worst>>,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            total: Tally::default(),
            asked: Times::default(),
            delivered: Times::default(),
            error: Times::default(),
            early: 0,
            natural_delayed: Times::default(),
            natural_baseline: Times::default(),
            span: None,
            other_processes: Tally::default(),
            protocols: [Tally::default(); PROTOCOLS],
            rules: [Tally::default(); RULES],
            processes: HashMap::with_capacity(PROCESSES),
            errnos: vec![Outcome::default(); ERRNOS + 1],
            worst: BinaryHeap::with_capacity(WORST + 1),
        }
    }
}

impl Summary {
    /// Adds one send.
    pub fn record(&mut self, record: &SendRecord) {
        let send = SendView::new(record);
        self.total.add(send);
        self.protocols[usize::from(record.protocol).min(PROTOCOLS - 1)].add(send);
        self.rules[usize::from(record.rule).min(RULES - 1)].add(send);
        self.process(record).add(send);
        if let Some(errno) = send.errno() {
            let index = Some(errno as usize).filter(|errno| *errno <= ERRNOS);
            let outcome = &mut self.errnos[index.unwrap_or(0)];
            if send.failed() {
                outcome.injected += 1;
            } else {
                outcome.own += 1;
            }
        }
        self.times(send);
        self.keep_worst(send);
    }

    fn process(&mut self, record: &SendRecord) -> &mut Tally {
        let full = self.processes.len() >= PROCESSES;
        if full && !self.processes.contains_key(&record.tgid) {
            return &mut self.other_processes;
        }
        let process = self
            .processes
            .entry(record.tgid)
            .or_insert_with(|| Process {
                tgid: record.tgid,
                comm: record.comm,
                tally: Tally::default(),
            });
        if record.tid == record.tgid {
            process.comm = record.comm;
        }
        &mut process.tally
    }

    fn times(&mut self, send: SendView<'_>) {
        if let Some(asked) = send.asked() {
            self.asked.record(asked);
        }
        if let Some(delivered) = send.delivered() {
            self.delivered.record(delivered);
            if let Some(asked) = send
                .asked()
                .filter(|_| !send.has(flags::CAPPED | flags::SHORTENED))
            {
                self.error.record(delivered.abs_diff(asked));
                self.early += u64::from(delivered < asked);
            }
        }
        if let Some(natural) = send.natural() {
            if send.delayed() {
                self.natural_delayed.record(natural);
            } else {
                self.natural_baseline.record(natural);
            }
        }
        if let Some(start) = send.start() {
            let end = start.saturating_add(send.total().unwrap_or(0));
            let (first, last) = self.span.unwrap_or((start, end));
            self.span = Some((first.min(start), last.max(end)));
        }
    }

    fn keep_worst(&mut self, send: SendView<'_>) {
        let Some(ns) = send.projected() else {
            return;
        };
        let key = (ns, Reverse(send.record().start_ns));
        if self.worst.len() >= WORST {
            if self
                .worst
                .peek()
                .is_some_and(|Reverse(least)| least.key >= key)
            {
                return;
            }
            self.worst.pop();
        }
        self.worst.push(Reverse(Worst {
            key,
            record: *send.record(),
        }));
    }

    /// The sends that took longest, or in shadow mode would have, worst first.
    pub fn worst(&self) -> Vec<&SendRecord> {
        let mut worst: Vec<_> = self.worst.iter().map(|Reverse(worst)| worst).collect();
        worst.sort_unstable_by(|a, b| b.cmp(a));
        worst.into_iter().map(|worst| &worst.record).collect()
    }

    /// Counts of each protocol that sent; `None` is a number that the ABI does
    /// not know.
    pub fn protocols(&self) -> impl Iterator<Item = (Option<Protocol>, &Tally)> {
        seen(&self.protocols).map(|(number, tally)| (Protocol::from_number(number as u8), tally))
    }

    /// Counts of each rule that targets sent under; `None` is a number that the
    /// ABI does not allow.
    pub fn rules(&self) -> impl Iterator<Item = (Option<usize>, &Tally)> {
        seen(&self.rules).map(|(rule, tally)| ((rule < RULES - 1).then_some(rule), tally))
    }

    /// Counts of each process, those that the rule chose most sends of first.
    pub fn processes(&self) -> Vec<&Process> {
        let mut all: Vec<_> = self.processes.values().collect();
        all.sort_unstable_by_key(|process| {
            let Tally { chosen, sends, .. } = process.tally;
            (Reverse(chosen), Reverse(sends), process.tgid)
        });
        all
    }

    /// How often each errno was returned, in the order of the numbers; `None`
    /// is what is no errno.
    pub fn errnos(&self) -> impl Iterator<Item = (Option<i32>, Outcome)> {
        self.errnos
            .iter()
            .enumerate()
            .filter(|(_, outcome)| **outcome != Outcome::default())
            .map(|(number, outcome)| ((number > 0).then_some(number as i32), *outcome))
    }
}

/// Ordered by the time that the send took; of equals the earlier one is worse.
#[derive(Debug)]
struct Worst {
    key: (u64, Reverse<u64>),
    record: SendRecord,
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Worst {}

fn seen(tallies: &[Tally]) -> impl Iterator<Item = (usize, &Tally)> {
    tallies
        .iter()
        .enumerate()
        .filter(|(_, tally)| tally.sends > 0)
}

#[cfg(test)]
mod tests {
    use injector_ebpf::{Guard, Hook};
    use proptest::prelude::*;

    use super::*;
    use crate::explain::fixture::{self, delayed, send};

    fn summary(records: &[SendRecord]) -> Summary {
        fixture::summary(records)
    }

    #[test]
    fn a_send_without_start_is_counted_and_has_no_times() {
        let lost = SendRecord {
            flags: flags::NO_START | flags::FLAGGED,
            hook: Hook::SockSendLength as u8,
            ..delayed(10, 10, 10)
        };
        let summary = summary(&[lost]);
        assert_eq!((summary.total.sends, summary.total.no_start), (1, 1));
        assert_eq!(summary.total.flagged, 1);
        assert!(summary.asked.is_empty() && summary.delivered.is_empty());
        assert!(summary.natural_baseline.is_empty() && summary.natural_delayed.is_empty());
        assert!(summary.error.is_empty() && summary.worst().is_empty());
        assert_eq!(summary.span, None);
    }

    #[test]
    fn delayed_sends_are_apart_from_the_baseline() {
        let summary = summary(&[send(), send(), delayed(1_000, 1_010, 7_000)]);
        assert_eq!(summary.natural_baseline.count(), 2);
        assert_eq!(summary.natural_delayed.max(), Some(7_000));
        assert_eq!(summary.error.max(), Some(10));
        assert_eq!(summary.early, 0);
        assert_eq!(
            (summary.total.asked_ns, summary.total.delivered_ns),
            (1_000, 1_010)
        );
        assert_eq!(summary.span, Some((1_000_000_000, 1_000_008_010)));
    }

    #[test]
    fn a_capped_delay_is_no_error_of_the_engine() {
        let capped = SendRecord {
            flags: flags::CAPPED,
            ..delayed(1_000_000, 1_000, 5)
        };
        let summary = summary(&[capped, delayed(100, 90, 5)]);
        assert_eq!(summary.error.count(), 1);
        assert_eq!((summary.error.max(), summary.early), (Some(10), 1));
        assert_eq!((summary.total.capped, summary.delivered.count()), (1, 2));
    }

    #[test]
    fn what_shadow_mode_left_out_is_counted_as_such() {
        let shadowed = SendRecord {
            verdict: Verdict::Shadowed as u8,
            flags: flags::FAILED | flags::FLAGGED,
            ..delayed(900, 0, 5)
        };
        let slow_by_itself = SendRecord {
            flags: flags::WOULD_SIGNAL | flags::FLAGGED,
            ..send()
        };
        let total = summary(&[slow_by_itself]).total;
        assert_eq!((total.signalled, total.would_signal), (0, 1));
        let summary = summary(&[send(), shadowed]);
        let total = summary.total;
        assert_eq!((total.chosen, total.shadowed, total.delayed), (1, 1, 0));
        assert_eq!(
            (total.would_delay, total.would_fail, total.failed),
            (1, 1, 0)
        );
        assert_eq!(summary.asked.count(), 1);
        assert!(summary.delivered.is_empty());
        assert_eq!(summary.natural_baseline.count(), 2, "it was sent as ever");
        assert_eq!(summary.worst()[1].verdict, Verdict::Shadowed as u8);
    }

    #[test]
    fn the_worst_are_few_and_in_order() {
        let records: Vec<_> = (0..1_000_u64)
            .map(|n| SendRecord {
                start_ns: n + 1,
                ..delayed(1, 1, (n * 7_919) % 1_000 + 1)
            })
            .collect();
        let worst: Vec<_> = summary(&records)
            .worst()
            .iter()
            .map(|record| record.natural_ns)
            .collect();
        assert_eq!(worst, (991..=1_000).rev().collect::<Vec<_>>());
    }

    #[test]
    fn of_equally_bad_sends_the_first_stay() {
        let records: Vec<_> = (1..=50)
            .map(|start_ns| SendRecord { start_ns, ..send() })
            .collect();
        let summary = summary(&records);
        let starts: Vec<_> = summary.worst().iter().map(|worst| worst.start_ns).collect();
        assert_eq!(starts, (1..=WORST as u64).collect::<Vec<_>>());
    }

    #[test]
    fn errors_of_ours_are_apart_from_the_kernels() {
        let injected = SendRecord {
            result: -104,
            flags: flags::FAILED,
            ..delayed(0, 0, 0)
        };
        let own = SendRecord {
            result: -104,
            ..send()
        };
        let odd = SendRecord {
            result: -5_000,
            ..send()
        };
        let summary = summary(&[injected, own, own, odd]);
        let errnos: Vec<_> = summary.errnos().collect();
        assert_eq!(
            errnos,
            [
                (
                    None,
                    Outcome {
                        injected: 0,
                        own: 1
                    }
                ),
                (
                    Some(104),
                    Outcome {
                        injected: 1,
                        own: 2
                    }
                ),
            ]
        );
        assert_eq!(summary.total.errors, 4);
    }

    #[test]
    fn processes_are_bounded_and_the_rest_is_counted() {
        let records: Vec<_> = (0..PROCESSES as u32 + 100)
            .map(|tgid| SendRecord { tgid, ..send() })
            .collect();
        let summary = summary(&records);
        assert_eq!(summary.processes().len(), PROCESSES);
        assert_eq!(summary.other_processes.sends, 100);
    }

    #[test]
    fn a_process_is_named_after_its_main_thread() {
        let mut worker = send();
        worker.tid = 4400;
        worker.comm = *b"worker\0\0\0\0\0\0\0\0\0\0";
        let only_worker = summary(&[worker]);
        assert_eq!(only_worker.processes()[0].comm().to_string(), "worker");
        let both = summary(&[worker, send(), worker]);
        assert_eq!(both.processes()[0].comm().to_string(), "order-api");
        assert_eq!(both.processes()[0].tally.sends, 3);
    }

    #[test]
    fn guards_do_not_make_a_send_delayed() {
        let suppressed = SendRecord {
            verdict: Verdict::Suppressed as u8,
            guard: Guard::Lease as u8,
            ..delayed(500, 0, 5)
        };
        let total = summary(&[suppressed]).total;
        assert_eq!((total.chosen, total.suppressed, total.delayed), (1, 1, 0));
    }

    fn sum<'a>(parts: impl Iterator<Item = &'a Tally>) -> Tally {
        let mut whole = Tally::default();
        parts.for_each(|part| whole.merge(part));
        whole
    }

    proptest! {
        // Each case fills histograms of 1.3 MiB.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn parts_add_up_to_the_whole(
            records in prop::collection::vec(fixture::any_record(), 0..200),
        ) {
            let summary = summary(&records);
            let total = summary.total;
            prop_assert_eq!(total.sends, records.len() as u64);
            prop_assert_eq!(sum(summary.protocols().map(|(_, tally)| tally)), total);
            prop_assert_eq!(sum(summary.rules().map(|(_, tally)| tally)), total);
            let processes = summary.processes();
            let each = processes.iter().map(|process| &process.tally);
            prop_assert_eq!(sum(each.chain([&summary.other_processes])), total);

            let errors: u64 = summary.errnos().map(|(_, n)| n.injected + n.own).sum();
            prop_assert_eq!(errors, total.errors);
            prop_assert_eq!(summary.delivered.count(), total.delayed);
            prop_assert!(total.chosen >= total.suppressed + total.shadowed);
            prop_assert!(summary.asked.count() <= total.chosen);
            let natural = summary.natural_delayed.count() + summary.natural_baseline.count();
            prop_assert!(natural <= total.sends - total.no_start);
            prop_assert!(summary.error.count() <= summary.delivered.count());
            prop_assert!(summary.early <= summary.error.count());
        }

        #[test]
        fn the_worst_are_those_that_sorting_would_find(
            records in prop::collection::vec(fixture::any_record(), 0..60),
        ) {
            let mut all: Vec<_> = records
                .iter()
                .filter_map(|record| SendView::new(record).projected())
                .collect();
            all.sort_unstable_by_key(|ns| Reverse(*ns));
            all.truncate(WORST);
            let worst: Vec<_> = summary(&records)
                .worst()
                .iter()
                .filter_map(|record| SendView::new(record).projected())
                .collect();
            prop_assert_eq!(worst, all);
        }
    }
}
