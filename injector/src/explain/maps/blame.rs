//! Why a goroutine waited: what the one that held the lock did meanwhile. Sends
//! of the holder, and what it waited for itself, are laid beside each wait; what
//! neither explains stays unexplained.

use std::collections::{HashMap, VecDeque};

use injector_ebpf::{SendRecord, flags};

use super::{super::SendView, gc, span::Cause};

/// Sends and waits that are kept of one goroutine. A hold with more of them
/// loses the blame of its oldest.
const KEPT: usize = 32;
/// Goroutines of which something is kept: with all of them full, 110 MB; with the
/// two or three spans of a request handler each, 10 MB. Of more, those that were
/// idle longest are forgotten.
const GOROUTINES: usize = 32_768;
/// Holders that wait for holders that wait: how far that is followed.
const DEPTH: u32 = 4;

/// From one time to another, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub start: u64,
    /// When it was over.
    pub end: u64,
}

impl Span {
    fn within(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self {
            start,
            end: self.end.min(other.end).max(start),
        }
    }

    fn is_empty(self) -> bool {
        self.start >= self.end
    }

    fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What a wait was for, in nanoseconds. The parts add up to the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The holder was in an injected delay.
    pub injected: u64,
    /// The holder was in a send, apart from any injected delay.
    pub sending: u64,
    /// No goroutine could run, mostly for the garbage collector, and no send is
    /// to blame for this part.
    pub pausing: u64,
    /// The holder could run and had no CPU, and was in no send.
    pub no_cpu: u64,
    /// Nothing that was seen explains it: the holder computed, or waited for
    /// something else.
    pub unexplained: u64,
    /// Of the first two: the holder was not in it itself, but waited for one
    /// that was.
    pub chained: u64,
    /// Of `sending`: in sends that were not delayed.
    pub undelayed: u64,
    /// Of `undelayed`: in sends that would have been delayed (shadow mode).
    pub shadowed: u64,
}

impl Parts {
    /// All of it.
    pub fn whole(&self) -> u64 {
        self.injected + self.sending + self.pausing + self.no_cpu + self.unexplained
    }

    /// For this time no send is to blame.
    fn add_other(&mut self, span: Span, pauses: &gc::Spans) {
        // Pauses that overlap each other are no more than the whole.
        let pausing = pauses.overlap(span.start, span.end).min(span.length());
        self.pausing += pausing;
        self.unexplained += span.length() - pausing;
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.injected += other.injected;
        self.sending += other.sending;
        self.pausing += other.pausing;
        self.no_cpu += other.no_cpu;
        self.unexplained += other.unexplained;
        self.chained += other.chained;
        self.undelayed += other.undelayed;
        self.shadowed += other.shadowed;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    /// By what was injected into the send that began then.
    Delayed(u64),
    /// In the send that began then.
    Sending(u64, Kind),
    /// For a lock that this goroutine released.
    Waiting(u64),
    /// With nothing, for others had its CPU.
    NoCpu,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Delayed,
    Plain,
    Shadowed,
}

/// Sends of one kind, and what others waited for while they lasted: to compare
/// those that were delayed with those that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// How many sends.
    pub sends: u64,
    /// Their delay together, in nanoseconds; in shadow mode, that which they would
    /// have had.
    pub delay_ns: u64,
    /// Time that they took themselves, in nanoseconds.
    pub natural_ns: u64,
    /// Waits for locks that they had a part in.
    pub waits: u64,
    /// How much of these waits was in them, their delay included, in nanoseconds.
    pub waited_ns: u64,
}

impl Group {
    fn sent(&mut self, delay_ns: u64, natural_ns: u64) {
        self.sends += 1;
        self.delay_ns = self.delay_ns.saturating_add(delay_ns);
        self.natural_ns = self.natural_ns.saturating_add(natural_ns);
    }

    fn waited(&mut self, ns: u64) {
        self.waits += u64::from(ns > 0);
        self.waited_ns = self.waited_ns.saturating_add(ns);
    }
}

/// What the goroutines of one program were busy with, and what that made others
/// wait.
#[derive(Debug, Default)]
pub struct Blame {
    goroutines: HashMap<u64, VecDeque<(Span, Busy)>>,
    /// Goroutines that were forgotten because there were too many.
    pub forgotten: u64,
    /// Delay that was injected into sends of goroutines, in nanoseconds.
    pub injected_ns: u64,
    /// What all waits were for.
    pub waits: Parts,
    /// Sends that were delayed.
    pub delayed: Group,
    /// Sends that were not.
    pub undelayed: Group,
    /// Those of them that would have been, in shadow mode.
    pub shadowed: Group,
}

impl Blame {
    /// A goroutine has sent.
    pub fn send(&mut self, record: &SendRecord) {
        let send = SendView::new(record);
        let (Some(goroutine), Some(start)) = (send.goroutine(), send.start()) else {
            return;
        };
        let delay = send.delivered().unwrap_or(0);
        let natural = send.natural().unwrap_or(0);
        self.injected_ns = self.injected_ns.saturating_add(delay);
        let asked = send.asked().unwrap_or(0);
        let kind = match (delay, send.shadowed()) {
            (1.., _) => Kind::Delayed,
            (0, true) if asked > 0 => Kind::Shadowed,
            _ => Kind::Plain,
        };
        match kind {
            Kind::Delayed => self.delayed.sent(delay, natural),
            Kind::Plain | Kind::Shadowed => self.undelayed.sent(0, natural),
        }
        if kind == Kind::Shadowed {
            self.shadowed.sent(asked, natural);
        }
        let (first, second) = if send.has(flags::AFTER) {
            (
                (natural, Busy::Sending(start, kind)),
                (delay, Busy::Delayed(start)),
            )
        } else {
            (
                (delay, Busy::Delayed(start)),
                (natural, Busy::Sending(start, kind)),
            )
        };
        let middle = start + first.0;
        let spans = [
            (Span { start, end: middle }, first.1),
            (
                Span {
                    start: middle,
                    end: middle + second.0,
                },
                second.1,
            ),
        ];
        for (span, busy) in spans {
            if !span.is_empty() {
                self.keep(goroutine, span, busy);
            }
        }
    }

    /// A goroutine could run in this time, and had no CPU.
    pub fn no_cpu(&mut self, goroutine: u64, span: Span) {
        if !span.is_empty() {
            self.keep(goroutine, span, Busy::NoCpu);
        }
    }

    /// A goroutine has waited for a lock, which was released at these times by
    /// these goroutines, in order: until then, each had it. Everything that they
    /// did until then must have been told. The sends that it was for go to `causes`.
    pub fn wait(
        &mut self,
        waiter: u64,
        span: Span,
        releases: impl Iterator<Item = (u64, u64)>,
        pauses: &gc::Spans,
        causes: &mut Vec<Cause>,
    ) -> Parts {
        let mut parts = Parts::default();
        let mut from = span.start;
        for (time, holder) in releases {
            let held = Span {
                start: from,
                end: time,
            }
            .within(span);
            if held.is_empty() {
                continue;
            }
            from = held.end;
            if holder == waiter {
                parts.add_other(held, pauses);
            } else {
                parts.add(&self.explain(holder, held, DEPTH, pauses, causes));
            }
            self.keep(waiter, held, Busy::Waiting(holder));
        }
        // Nobody had it any more: until it ran.
        let rest = Span {
            start: from,
            end: span.end.max(from),
        };
        parts.add_other(rest, pauses);
        self.waits.add(&parts);
        self.delayed
            .waited(parts.injected + parts.sending - parts.undelayed);
        self.undelayed.waited(parts.undelayed);
        self.shadowed.waited(parts.shadowed);
        parts
    }

    /// What this goroutine was busy with in this time.
    fn explain(
        &self,
        who: u64,
        span: Span,
        depth: u32,
        pauses: &gc::Spans,
        causes: &mut Vec<Cause>,
    ) -> Parts {
        let mut parts = Parts::default();
        let mut from = span.start;
        let kept = self.goroutines.get(&who).into_iter().flatten();
        // Oldest first: a goroutine does one thing after the other.
        for (busy_span, busy) in kept {
            let busy_span = busy_span.within(Span {
                start: from,
                end: span.end,
            });
            if busy_span.is_empty() {
                continue;
            }
            let before = Span {
                start: from,
                end: busy_span.start,
            };
            parts.add_other(before, pauses);
            from = busy_span.end;
            let length = busy_span.length();
            match busy {
                Busy::Delayed(send) => {
                    parts.injected += length;
                    cause(causes, who, *send).injected_ns += length;
                }
                Busy::Sending(send, kind) => {
                    parts.sending += length;
                    if *kind != Kind::Delayed {
                        parts.undelayed += length;
                    }
                    if *kind == Kind::Shadowed {
                        parts.shadowed += length;
                    }
                    cause(causes, who, *send).sending_ns += length;
                }
                Busy::Waiting(holder) if depth > 0 && *holder != who => {
                    let mut inner = self.explain(*holder, busy_span, depth - 1, pauses, causes);
                    inner.chained = inner.injected + inner.sending;
                    parts.add(&inner);
                }
                Busy::Waiting(_) => parts.add_other(busy_span, pauses),
                Busy::NoCpu => parts.no_cpu += length,
            }
        }
        let rest = Span {
            start: from,
            end: span.end.max(from),
        };
        parts.add_other(rest, pauses);
        parts
    }

    fn keep(&mut self, who: u64, span: Span, busy: Busy) {
        if self.goroutines.len() >= GOROUTINES && !self.goroutines.contains_key(&who) {
            self.forget();
        }
        let kept = self.goroutines.entry(who).or_default();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        // Rings are read one after the other, so a wait can come before a send
        // that was over earlier.
        let later = kept
            .iter()
            .rev()
            .take_while(|(other, _)| other.start > span.start);
        let place = kept.len() - later.count();
        kept.insert(place, (span, busy));
    }

    /// Forgets the half that was idle longest.
    fn forget(&mut self) {
        let last = |kept: &VecDeque<(Span, Busy)>| kept.back().map_or(0, |(span, _)| span.end);
        let mut ends: Vec<u64> = self.goroutines.values().map(last).collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let median = *median;
        let before = self.goroutines.len();
        self.goroutines.retain(|_, kept| last(kept) > median);
        self.forgotten += (before - self.goroutines.len()) as u64;
    }
}

/// That of this send, which is the last one if it is there: the two parts of a
/// send follow upon each other.
fn cause(causes: &mut Vec<Cause>, goroutine: u64, send_start_ns: u64) -> &mut Cause {
    let known = causes
        .last()
        .is_some_and(|last| (last.goroutine, last.send_start_ns) == (goroutine, send_start_ns));
    if !known {
        causes.push(Cause {
            goroutine,
            send_start_ns,
            ..Cause::default()
        });
    }
    causes.last_mut().expect("one is there")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::super::fixture::{delayed, send},
        *,
    };

    fn sent(goroutine: u64, start: u64, delay: u64, natural: u64) -> SendRecord {
        SendRecord {
            start_ns: start,
            natural_ns: natural,
            goroutine,
            ..if delay > 0 {
                delayed(delay, delay, natural)
            } else {
                send()
            }
        }
    }

    /// Waits from `start` until the holder releases at `end`.
    fn wait(blame: &mut Blame, waiter: u64, holder: u64, start: u64, end: u64) -> Parts {
        let releases = (holder != 0).then_some((end, holder));
        let span = Span { start, end };
        let pauses = gc::Spans::default();
        blame.wait(waiter, span, releases.into_iter(), &pauses, &mut Vec::new())
    }

    #[test]
    fn a_wait_is_for_what_the_holder_did_meanwhile() {
        let mut blame = Blame::default();
        // Delayed from 1000 to 1500, sending until 1600; a wait from 1200 to 1700.
        blame.send(&sent(7, 1000, 500, 100));
        let parts = wait(&mut blame, 8, 7, 1200, 1700);
        let expected = Parts {
            injected: 300,
            sending: 100,
            unexplained: 100,
            ..Parts::default()
        };
        assert_eq!(parts, expected);
        assert_eq!((blame.injected_ns, blame.waits), (500, expected));
    }

    #[test]
    fn a_pause_of_the_program_is_nobodys_fault() {
        let mut blame = Blame::default();
        blame.send(&sent(7, 1000, 500, 0));
        let mut pauses = gc::Spans::default();
        // In the send, so that it does not matter; then behind it.
        for (start, end) in [(1300, 1400), (1600, 1650)] {
            pauses.begin(start);
            pauses.end(end);
        }
        let span = Span {
            start: 1200,
            end: 1700,
        };
        let parts = blame.wait(8, span, [(1700, 7)].into_iter(), &pauses, &mut Vec::new());
        let expected = Parts {
            injected: 300,
            pausing: 50,
            unexplained: 150,
            ..Parts::default()
        };
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_holder_without_a_cpu_is_nobodys_fault() {
        let mut blame = Blame::default();
        blame.send(&sent(7, 1000, 500, 0));
        // In the send, so that it does not matter; then behind it.
        for (start, end) in [(1300, 1400), (1600, 1650)] {
            blame.no_cpu(7, Span { start, end });
        }
        let parts = wait(&mut blame, 8, 7, 1200, 1700);
        let expected = Parts {
            injected: 300,
            no_cpu: 50,
            unexplained: 150,
            ..Parts::default()
        };
        assert_eq!(parts, expected);
    }

    #[test]
    fn delayed_sends_are_compared_with_others() {
        let mut blame = Blame::default();
        blame.send(&sent(7, 1000, 500, 100));
        blame.send(&sent(7, 2000, 0, 40));
        let mut shadowed = sent(7, 3000, 0, 60);
        shadowed.asked_ns = 900;
        shadowed.verdict = injector_ebpf::Verdict::Shadowed as u8;
        blame.send(&shadowed);
        for (start, end) in [(1000, 1600), (1900, 2030), (3000, 3070)] {
            wait(&mut blame, 8, 7, start, end);
        }
        let group = |sends, delay_ns, natural_ns, waits, waited_ns| Group {
            sends,
            delay_ns,
            natural_ns,
            waits,
            waited_ns,
        };
        assert_eq!(blame.delayed, group(1, 500, 100, 1, 600));
        assert_eq!(blame.undelayed, group(2, 0, 100, 2, 90));
        assert_eq!(blame.shadowed, group(1, 900, 60, 1, 60));
        let all = blame.delayed.waited_ns + blame.undelayed.waited_ns;
        assert_eq!(all, blame.waits.injected + blame.waits.sending);
    }

    #[test]
    fn each_holder_answers_for_its_own_time() {
        let mut blame = Blame::default();
        blame.send(&sent(1, 1000, 100, 0));
        blame.send(&sent(2, 1100, 50, 0));
        let releases = [(1100, 1), (1200, 2)];
        let span = Span {
            start: 1000,
            end: 1300,
        };
        let mut causes = Vec::new();
        let pauses = gc::Spans::default();
        let parts = blame.wait(9, span, releases.into_iter(), &pauses, &mut causes);
        assert_eq!((parts.injected, parts.unexplained), (150, 150));
        let cause = |goroutine, send_start_ns, injected_ns| Cause {
            goroutine,
            send_start_ns,
            injected_ns,
            sending_ns: 0,
        };
        assert_eq!(causes, [cause(1, 1000, 100), cause(2, 1100, 50)]);
    }

    #[test]
    fn a_delay_after_the_send_is_where_it_was() {
        let mut blame = Blame::default();
        let mut record = sent(7, 1000, 500, 100);
        record.flags |= flags::AFTER;
        blame.send(&record);
        let parts = wait(&mut blame, 8, 7, 1000, 1100);
        assert_eq!((parts.sending, parts.injected), (100, 0));
    }

    #[test]
    fn others_are_not_to_blame() {
        let mut blame = Blame::default();
        blame.send(&sent(7, 1000, 500, 100));
        for holder in [0, 9] {
            let parts = wait(&mut blame, 8, holder, 1000, 1500);
            assert_eq!((parts.unexplained, parts.whole()), (500, 500));
        }
    }

    #[test]
    fn a_holder_that_waits_passes_the_blame_on() {
        let mut blame = Blame::default();
        blame.send(&sent(1, 1000, 400, 0));
        let first = wait(&mut blame, 2, 1, 1100, 1400);
        assert_eq!((first.injected, first.chained), (300, 0));
        let second = wait(&mut blame, 3, 2, 1200, 1500);
        let expected = Parts {
            injected: 200,
            unexplained: 100,
            chained: 200,
            ..Parts::default()
        };
        assert_eq!(second, expected);
    }

    #[test]
    fn too_many_goroutines_are_forgotten_and_counted() {
        let mut blame = Blame::default();
        for goroutine in 1..=GOROUTINES as u64 + 1 {
            blame.send(&sent(goroutine, goroutine * 10, 5, 1));
        }
        assert!(blame.goroutines.len() <= GOROUTINES);
        assert!(blame.forgotten > 0);
        // The latest are still known.
        let last = GOROUTINES as u64;
        let parts = wait(&mut blame, u64::MAX, last, last * 10, last * 10 + 5);
        assert_eq!(parts.injected, 5);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send(SendRecord),
        Wait(u64, Span, Vec<(u64, u64)>),
        NoCpu(u64, Span),
    }

    fn step() -> impl Strategy<Value = Step> {
        let time = 0..10_000u64;
        let send = (1..6u64, time.clone(), 0..500u64, 0..500u64);
        let releases = prop::collection::vec((0..12_000u64, 0..6u64), 0..4);
        let no_cpu = (1..6u64, time.clone(), 0..500u64);
        let wait = (1..6u64, time, 0..2_000u64, releases);
        prop_oneof![
            no_cpu.prop_map(|(goroutine, start, length)| {
                let end = start + length;
                Step::NoCpu(goroutine, Span { start, end })
            }),
            send.prop_map(|(goroutine, start, delay, natural)| {
                Step::Send(sent(goroutine, start, delay, natural))
            }),
            wait.prop_map(|(waiter, start, length, mut releases)| {
                releases.sort_unstable();
                let end = start + length;
                Step::Wait(waiter, Span { start, end }, releases)
            }),
        ]
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(
            steps in prop::collection::vec(step(), 0..60),
            pauses in prop::collection::vec((0..12_000u64, 0..500u64), 0..20),
        ) {
            let mut blame = Blame::default();
            let mut paused = gc::Spans::default();
            for (start, length) in pauses {
                paused.begin(start);
                paused.end(start + length);
            }
            let mut sum = 0;
            for step in steps {
                match step {
                    Step::Send(record) => blame.send(&record),
                    Step::NoCpu(goroutine, span) => blame.no_cpu(goroutine, span),
                    Step::Wait(waiter, span, releases) => {
                        let mut causes = Vec::new();
                        let releases = releases.into_iter();
                        let parts = blame.wait(waiter, span, releases, &paused, &mut causes);
                        prop_assert_eq!(parts.whole(), span.length());
                        let injected: u64 = causes.iter().map(|it| it.injected_ns).sum();
                        let sending: u64 = causes.iter().map(|it| it.sending_ns).sum();
                        prop_assert_eq!((injected, sending), (parts.injected, parts.sending));
                        prop_assert!(parts.chained <= parts.injected + parts.sending);
                        prop_assert!(parts.shadowed <= parts.undelayed);
                        prop_assert!(parts.undelayed <= parts.sending);
                        sum += parts.whole();
                    }
                }
            }
            prop_assert_eq!(blame.waits.whole(), sum);
        }

        /// What is over before the wait is in it, in whatever order it is told.
        #[test]
        fn order_does_not_matter(
            starts in prop::collection::btree_set(0..20u64, 1..10),
            turn in any::<prop::sample::Index>(),
        ) {
            let sends: Vec<_> = starts.iter().map(|n| sent(7, n * 100, 30, 20)).collect();
            let mut turned = sends.clone();
            turned.rotate_left(turn.index(sends.len()));
            let parts = |sends: &[SendRecord]| {
                let mut blame = Blame::default();
                for record in sends {
                    blame.send(record);
                }
                wait(&mut blame, 8, 7, 50, 1_500)
            };
            prop_assert_eq!(parts(&sends), parts(&turned));
        }
    }
}
