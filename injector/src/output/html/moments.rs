//! The worst moments of a program: who waited longest, for whom, and what that one
//! did meanwhile, as lanes of goroutines.

use std::{collections::HashSet, fmt::Write as _};

use injector_ebpf::{SendRecord, flags};
use serde::Serialize;

use super::{
    super::{
        maps_finding::{self, Frame as Place},
        units::Time,
    },
    columns::{Columns, Sum},
    longest::Longest,
};
use crate::{
    explain::{
        SendView,
        maps::{Cause, Hold, Span, Trace, Wait},
    },
    go::{Frame, is_runtime},
};

/// Moments that are drawn.
const MOMENTS: usize = 4;
/// Those of them that are about one lock.
const OF_ONE_LOCK: usize = 2;
/// Goroutines in a picture.
const LANES: usize = 10;
/// Goroutines that had the lock, of these.
const HOLDERS: usize = 3;
/// Bars of one goroutine.
const BARS: usize = 40;

/// How long goroutines waited for locks in some time, in nanoseconds, by what it
/// was for: the holder was in an injected delay, or in a send, no goroutine could run,
/// the holder had no CPU, or none of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waiting([u64; 5]);

impl Sum for Waiting {
    fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }
}

/// A send of a goroutine.
#[derive(Debug)]
struct Sent {
    record: SendRecord,
    place: Option<Frame>,
}

impl Sent {
    fn start(&self) -> u64 {
        self.record.start_ns
    }

    fn end(&self) -> u64 {
        let total = SendView::new(&self.record).total().unwrap_or(0);
        self.record.start_ns.saturating_add(total)
    }
}

/// Collects what took long in one program.
#[derive(Debug, Default)]
pub struct Moments {
    sends: Longest<Sent>,
    waits: Longest<Wait>,
    holds: Longest<Hold>,
    pauses: Longest<(u64, u64)>,
    waiting: Columns<Waiting>,
}

/// How many goroutines waited, over time.
#[derive(Debug, Serialize)]
pub struct Over {
    column_ns: u64,
    columns: Vec<Waiting>,
}

/// A moment. Times are nanoseconds since the start of the run.
#[derive(Debug, Serialize)]
pub struct Moment {
    title: String,
    words: Vec<String>,
    from_ns: u64,
    to_ns: u64,
    pauses: Vec<(u64, u64)>,
    lanes: Vec<Lane>,
    arrows: Vec<Arrow>,
    /// Goroutines that waited for the same lock and are not drawn.
    not_drawn: usize,
}

#[derive(Debug, Serialize)]
struct Lane {
    goroutine: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_as: Option<String>,
    bars: Vec<Bar>,
}

#[derive(Debug, Serialize)]
struct Bar {
    start_ns: u64,
    end_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What {
    Send {
        delay_ns: u64,
        after: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    Hold {
        lock: String,
        whole: bool,
    },
    Wait {
        lock: String,
        over: bool,
    },
}

/// From who released the lock to who got it then; lanes by number.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Arrow {
    from: usize,
    to: usize,
    released_ns: u64,
    got_ns: u64,
}

impl Moments {
    /// A goroutine has sent, from this stack, innermost first.
    pub fn send(&mut self, record: &SendRecord, stack: &[Frame]) {
        let send = SendView::new(record);
        if let (Some(_), Some(total)) = (send.start(), send.total()) {
            self.sends.add(total, || Sent {
                record: *record,
                place: own(stack).cloned(),
            });
        }
    }

    /// Something that took time, in a run that began at this time.
    pub fn span(&mut self, span: &Span, start_ns: u64) {
        match span {
            Span::Wait(wait) if wait.lock != 0 => {
                self.waited(wait, start_ns);
                let length = wait.end_ns.saturating_sub(wait.start_ns);
                self.waits.add(length, || wait.clone());
            }
            Span::Hold(hold) => {
                let length = hold.end_ns.saturating_sub(hold.start_ns);
                self.holds.add(length, || *hold);
            }
            Span::Pause { start_ns, end_ns } => {
                let length = end_ns.saturating_sub(*start_ns);
                self.pauses.add(length, || (*start_ns, *end_ns));
            }
            _ => {}
        }
    }

    /// The parts of a wait are not told by time, so each column has them in the
    /// same proportion.
    fn waited(&mut self, wait: &Wait, start_ns: u64) {
        let whole = u128::from(wait.parts.whole().max(1));
        let parts = [
            wait.parts.injected,
            wait.parts.sending,
            wait.parts.pausing,
            wait.parts.no_cpu,
            wait.parts.unexplained,
        ];
        let from = wait.start_ns.saturating_sub(start_ns);
        let to = wait.end_ns.saturating_sub(start_ns);
        self.waiting.over(from, to, |column, ns| {
            let share = parts.map(|part| (u128::from(part) * u128::from(ns) / whole) as u64);
            column.add(&Waiting(share));
        });
    }

    /// How many waited, over time.
    pub fn over_time(&self) -> Over {
        Over {
            column_ns: self.waiting.width_ns(),
            columns: self.waiting.iter().copied().collect(),
        }
    }

    /// From what the moments are chosen, in words.
    pub fn chosen_from(&self) -> String {
        let mut text = format!(
            "The {MOMENTS} longest waits for locks, at most {OF_ONE_LOCK} for one lock, that do not \
             overlap, with up to {LANES} goroutines each."
        );
        for (what, left_out, least_ns) in [
            ("waits", self.waits.left_out(), self.waits.least_ns()),
            ("holds", self.holds.left_out(), self.holds.least_ns()),
            ("sends", self.sends.left_out(), self.sends.least_ns()),
        ] {
            if left_out > 0 {
                let _ = write!(
                    text,
                    " {left_out} {what} of up to {} are not drawn.",
                    Time(least_ns)
                );
            }
        }
        text
    }

    /// The worst moments, longest wait first.
    pub fn worst(&self, trace: &Trace, start_ns: u64) -> Vec<Moment> {
        let mut waits: Vec<&Wait> = self.waits.iter().collect();
        waits.sort_by_key(|wait| {
            let length = wait.end_ns.saturating_sub(wait.start_ns);
            (std::cmp::Reverse(length), wait.start_ns)
        });
        let mut chosen: Vec<&Wait> = Vec::new();
        for wait in waits {
            let of_lock = chosen.iter().filter(|other| other.lock == wait.lock);
            let apart = of_lock
                .clone()
                .all(|other| other.end_ns < wait.start_ns || other.start_ns > wait.end_ns);
            if apart && of_lock.count() < OF_ONE_LOCK {
                chosen.push(wait);
            }
            if chosen.len() == MOMENTS {
                break;
            }
        }
        let view = |wait: &Wait| View::new(self, trace, wait).moment(start_ns);
        chosen.into_iter().map(view).collect()
    }
}

/// One moment in the making.
struct View<'a> {
    all: &'a Moments,
    trace: &'a Trace,
    wait: &'a Wait,
    from: u64,
    to: u64,
    /// Goroutines, from the top on.
    goroutines: Vec<u64>,
    not_drawn: usize,
}

impl<'a> View<'a> {
    fn new(all: &'a Moments, trace: &'a Trace, wait: &'a Wait) -> Self {
        let length = wait.end_ns.saturating_sub(wait.start_ns);
        let mut goroutines = holders(wait);
        for cause in &wait.causes {
            if goroutines.len() < HOLDERS + 2 && !goroutines.contains(&cause.goroutine) {
                goroutines.push(cause.goroutine);
            }
        }
        let held = all.holds.iter().filter(|hold| {
            hold.lock == wait.lock
                && goroutines.contains(&hold.goroutine)
                && hold.start_ns < wait.end_ns
                && hold.end_ns > wait.start_ns
        });
        let first = held.map(|hold| hold.start_ns).min();
        let first = first.unwrap_or(wait.start_ns).min(wait.start_ns);
        // What was long before would make the wait itself small.
        let first = first.max(wait.start_ns.saturating_sub(length));
        let mut view = Self {
            all,
            trace,
            wait,
            from: first.saturating_sub(length / 12),
            to: wait.end_ns.saturating_add(length / 12),
            goroutines,
            not_drawn: 0,
        };
        view.add_waiters();
        view
    }

    fn shows(&self, start_ns: u64, end_ns: u64) -> bool {
        start_ns < self.to && end_ns > self.from
    }

    fn add_waiters(&mut self) {
        let mut waits: Vec<&Wait> = self.all.waits.iter().collect();
        waits.retain(|other| {
            other.lock == self.wait.lock && self.shows(other.start_ns, other.end_ns)
        });
        // The wait itself comes first.
        waits.sort_by_key(|other| (*other != self.wait, other.start_ns));
        let mut others = HashSet::new();
        for other in waits {
            if self.goroutines.contains(&other.goroutine) {
                continue;
            }
            if self.goroutines.len() < LANES {
                self.goroutines.push(other.goroutine);
            } else {
                others.insert(other.goroutine);
            }
        }
        self.not_drawn = others.len();
    }

    fn moment(&self, start_ns: u64) -> Moment {
        let since = |ns: u64| ns.saturating_sub(start_ns);
        let lanes = self.goroutines.iter().map(|goroutine| {
            let mut bars = self.bars(*goroutine);
            bars.sort_by_key(|bar| std::cmp::Reverse(bar.end_ns.saturating_sub(bar.start_ns)));
            bars.truncate(BARS);
            bars.sort_by_key(|bar| (!matches!(bar.what, What::Hold { .. }), bar.start_ns));
            for bar in &mut bars {
                (bar.start_ns, bar.end_ns) = (since(bar.start_ns), since(bar.end_ns));
            }
            Lane {
                goroutine: *goroutine,
                started_as: self.trace.started_as(*goroutine),
                bars,
            }
        });
        let pauses = self.all.pauses.iter();
        let pauses = pauses.filter(|(start, end)| self.shows(*start, *end));
        Moment {
            title: format!(
                "{}: goroutine {} waited {}",
                self.lock(self.wait.lock),
                self.wait.goroutine,
                Time(self.wait.end_ns.saturating_sub(self.wait.start_ns))
            ),
            words: self.words(),
            from_ns: since(self.from),
            to_ns: since(self.to),
            pauses: pauses
                .map(|(start, end)| (since(*start), since(*end)))
                .collect(),
            lanes: lanes.collect(),
            arrows: self.arrows(&since),
            not_drawn: self.not_drawn,
        }
    }

    fn lock(&self, address: u64) -> String {
        match self.trace.lock_at(address) {
            Some(about) => format!("{} {}", about.what, maps_finding::called(&about)),
            None => format!("the lock at {address:#x}"),
        }
    }

    fn bars(&self, goroutine: u64) -> Vec<Bar> {
        let all = self.all;
        let holds = all.holds.iter().filter(|it| it.goroutine == goroutine);
        let holds = holds.map(|hold| Bar {
            start_ns: hold.start_ns,
            end_ns: hold.end_ns,
            place: self.trace.place(hold.stack).map(Place::from),
            what: What::Hold {
                lock: self.lock(hold.lock),
                whole: hold.whole,
            },
        });
        let waits = all.waits.iter().filter(|it| it.goroutine == goroutine);
        let waits = waits.map(|wait| Bar {
            start_ns: wait.start_ns,
            end_ns: wait.end_ns,
            place: self.trace.place(wait.stack).map(Place::from),
            what: What::Wait {
                lock: self.lock(wait.lock),
                over: wait.over,
            },
        });
        let sends = all.sends.iter();
        let sends = sends.filter(|it| it.record.goroutine == goroutine);
        let sends = sends.map(|sent| {
            let send = SendView::new(&sent.record);
            Bar {
                start_ns: sent.start(),
                end_ns: sent.end(),
                place: sent.place.as_ref().map(Place::from),
                what: What::Send {
                    delay_ns: send.delivered().unwrap_or(0),
                    after: send.has(flags::AFTER),
                    peer: send.peer().known().map(|peer| peer.to_string()),
                },
            }
        });
        let bars = holds.chain(waits).chain(sends);
        bars.filter(|bar| self.shows(bar.start_ns, bar.end_ns))
            .collect()
    }

    fn arrows(&self, since: &dyn Fn(u64) -> u64) -> Vec<Arrow> {
        let lane = |goroutine: u64| self.goroutines.iter().position(|it| *it == goroutine);
        let waits = self.all.waits.iter();
        let ended = waits.filter(|wait| {
            wait.over && wait.lock == self.wait.lock && (self.from..self.to).contains(&wait.end_ns)
        });
        let arrows = ended.filter_map(|wait| {
            let last = wait.holders.last()?;
            Some(Arrow {
                from: lane(last.goroutine).filter(|_| last.goroutine != wait.goroutine)?,
                to: lane(wait.goroutine)?,
                released_ns: since(last.until_ns),
                got_ns: since(wait.end_ns),
            })
        });
        let mut arrows: Vec<_> = arrows.collect();
        arrows.sort_by_key(|arrow| (arrow.got_ns, arrow.to));
        arrows.truncate(BARS);
        arrows
    }

    fn goroutine(&self, id: u64) -> String {
        match self.trace.started_as(id) {
            Some(start) => format!("goroutine {id} ({start})"),
            None => format!("goroutine {id}"),
        }
    }

    /// The chain, from the send to who waited.
    fn words(&self) -> Vec<String> {
        let weight = |cause: &&Cause| cause.injected_ns + cause.sending_ns;
        let cause = self.wait.causes.iter().max_by_key(weight);
        let cause_words = cause.map(|cause| self.sent(cause));
        let lock_words = self.held(cause);
        let first: Vec<String> = cause_words.into_iter().chain(lock_words).collect();
        let mut words = vec![first.join(" "), self.waited()];
        words.retain(|text| !text.is_empty());
        words
    }

    /// What was sent.
    fn sent(&self, cause: &Cause) -> String {
        let mut words = format!("{} sent", capital(&self.goroutine(cause.goroutine)));
        let mut sends = self.all.sends.iter();
        let found = sends.find(|sent| {
            sent.record.goroutine == cause.goroutine && sent.start() == cause.send_start_ns
        });
        if let Some(sent) = found {
            let send = SendView::new(&sent.record);
            if let Some(peer) = send.peer().known() {
                let _ = write!(words, " to {peer}");
            }
            if let Some(place) = &sent.place {
                let _ = write!(words, " in {} (line {})", place.function, place.line);
            }
            if let Some(delay) = send.delivered() {
                let _ = write!(words, ": {} of delay were injected", Time(delay));
            }
            if let Some(natural) = send.natural() {
                let _ = write!(words, ", and the send itself took {}", Time(natural));
            }
        }
        words.push('.');
        words
    }

    /// Who had the lock for most of the wait.
    fn held(&self, cause: Option<&Cause>) -> Option<String> {
        let wait = self.wait;
        let all = shares(wait).into_iter();
        let (holder, _) = all.max_by_key(|(_, share)| *share)?;
        let mut holds = self.all.holds.iter();
        let hold = holds.find(|hold| {
            hold.goroutine == holder
                && hold.lock == wait.lock
                && hold.start_ns < wait.end_ns
                && hold.end_ns > wait.start_ns
        });
        let who = match cause {
            Some(cause) if cause.goroutine == holder => "It".to_owned(),
            _ => capital(&self.goroutine(holder)),
        };
        let mut words = format!("{who} had {}", self.lock(wait.lock));
        if let Some(hold) = hold {
            let length = hold.end_ns.saturating_sub(hold.start_ns);
            let _ = write!(words, " for {}", Time(length));
            if !hold.whole {
                words.push_str(" and longer: when it got it was not seen");
            }
        }
        words.push('.');
        Some(words)
    }

    /// Who waited, and for what.
    fn waited(&self) -> String {
        let wait = self.wait;
        let mut words = format!(
            "{} waited {} for it",
            capital(&self.goroutine(wait.goroutine)),
            Time(wait.end_ns.saturating_sub(wait.start_ns))
        );
        if let Some(place) = self.trace.place(wait.stack) {
            let _ = write!(words, " in {} (line {})", place.function, place.line);
        }
        let parts = [
            (wait.parts.injected, "for injected delays"),
            (wait.parts.sending, "for sends themselves"),
            (wait.parts.pausing, "while no goroutine could run"),
            (wait.parts.no_cpu, "while it had no CPU"),
            (wait.parts.unexplained, "that no send explains"),
        ];
        let parts = parts.iter().filter(|(ns, _)| *ns > 0);
        let parts: Vec<String> = parts
            .map(|(ns, what)| format!("{} {what}", Time(*ns)))
            .collect();
        if !parts.is_empty() {
            let _ = write!(words, ": {}", parts.join(", "));
        }
        words.push('.');
        if !wait.over {
            words.push_str(" It still waited at the end.");
        }
        words
    }
}

/// Who had the lock during a wait, in order, and for how much of it.
fn shares(wait: &Wait) -> Vec<(u64, u64)> {
    let mut shares: Vec<(u64, u64)> = Vec::new();
    let mut from = wait.start_ns;
    for one in &wait.holders {
        let share = one.until_ns.saturating_sub(from);
        from = from.max(one.until_ns);
        match shares.iter_mut().find(|(known, _)| *known == one.goroutine) {
            Some((_, sum)) => *sum += share,
            None => shares.push((one.goroutine, share)),
        }
    }
    shares
}

/// Those that had the lock longest during a wait, in the order in which they had
/// it.
fn holders(wait: &Wait) -> Vec<u64> {
    let shares = shares(wait);
    let mut longest: Vec<u64> = shares.iter().map(|(_, share)| *share).collect();
    longest.sort_unstable_by_key(|share| std::cmp::Reverse(*share));
    let least = longest.get(HOLDERS - 1).copied().unwrap_or(0);
    let holders = shares.iter().filter(|(_, share)| *share >= least);
    holders.map(|(holder, _)| *holder).take(HOLDERS).collect()
}

/// The innermost frame of the program's own code: of `main`, or of a module,
/// whose path begins with a domain; else the innermost that is not the runtime's.
fn own(stack: &[Frame]) -> Option<&Frame> {
    let is_own = |frame: &&Frame| match frame.function.split_once('/') {
        Some((first, _)) => first.contains('.'),
        None => frame.function.starts_with("main."),
    };
    let mut outside = stack.iter().filter(|frame| !is_runtime(&frame.function));
    stack.iter().find(is_own).or_else(|| outside.next())
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        explain::{
            fixture,
            maps::{Holder, LockLayout, Parts},
        },
        go::{MapKind, Offsets},
    };

    const MS: u64 = 1_000_000;
    const START: u64 = 1_000 * MS;
    const LOCK: u64 = 0xc000;

    fn trace() -> Trace {
        Trace::new(
            START,
            MapKind::Swiss,
            LockLayout::of(&Offsets::of_table(27)),
        )
    }

    /// Goroutine 2 and 3 wait for 1, which sends under the lock from 5 to 35 ms, 25 ms
    /// of it delayed.
    fn moments() -> Moments {
        let mut moments = Moments::default();
        let record = SendRecord {
            start_ns: START + 5 * MS,
            goroutine: 1,
            ..fixture::delayed(25 * MS, 25 * MS, 5 * MS)
        };
        let frame = |function: &str| Frame {
            function: function.to_owned(),
            file: "/srv/cache.go".to_owned(),
            line: 88,
        };
        let stack = ["runtime.send", "net.(*conn).Write", "main.refresh"].map(frame);
        moments.send(&record, &stack);
        let hold = Hold {
            goroutine: 1,
            lock: LOCK,
            start_ns: START + 4 * MS,
            end_ns: START + 40 * MS,
            whole: true,
            ..Hold::default()
        };
        moments.span(&Span::Hold(hold), START);
        for (goroutine, from) in [(2, 10), (3, 12)] {
            let wait = Wait {
                goroutine,
                lock: LOCK,
                start_ns: START + from * MS,
                end_ns: START + 41 * MS,
                over: true,
                parts: Parts {
                    injected: (30 - from) * MS,
                    sending: 5 * MS,
                    unexplained: 6 * MS,
                    ..Parts::default()
                },
                holders: [Holder {
                    goroutine: 1,
                    until_ns: START + 40 * MS,
                    ..Holder::default()
                }]
                .into(),
                causes: [Cause {
                    goroutine: 1,
                    send_start_ns: START + 5 * MS,
                    injected_ns: (30 - from) * MS,
                    sending_ns: 5 * MS,
                }]
                .into(),
                ..Wait::default()
            };
            moments.span(&Span::Wait(wait), START);
        }
        moments
    }

    #[test]
    fn the_chain_is_told_from_the_send_to_the_waiter() {
        let all = moments().worst(&trace(), START);
        // The other wait overlaps with it, so it is in the same picture.
        let [moment] = &all[..] else {
            panic!("not one moment: {all:?}");
        };
        assert_eq!(moment.title, "the lock at 0xc000: goroutine 2 waited 31ms");
        assert_eq!(
            moment.words,
            [
                "Goroutine 1 sent to 127.0.0.1:80 in main.refresh (line 88): 25ms of delay were \
                 injected, and the send itself took 5ms. It had the lock at 0xc000 for 36ms.",
                "Goroutine 2 waited 31ms for it: 20ms for injected delays, 5ms for sends \
                 themselves, 6ms that no send explains.",
            ]
        );
        let lanes = moment.lanes.iter().map(|lane| lane.goroutine);
        assert_eq!(lanes.collect::<Vec<_>>(), [1, 2, 3]);
        let [hold, send] = &moment.lanes[0].bars[..] else {
            panic!("not a hold and a send: {:?}", moment.lanes[0]);
        };
        assert_eq!((hold.start_ns, hold.end_ns), (4 * MS, 40 * MS));
        assert_eq!((send.start_ns, send.end_ns), (5 * MS, 35 * MS));
        let arrow = |to| Arrow {
            from: 0,
            to,
            released_ns: 40 * MS,
            got_ns: 41 * MS,
        };
        assert_eq!(moment.arrows, [arrow(1), arrow(2)]);
        assert!(moment.from_ns <= 4 * MS && moment.to_ns >= 41 * MS);
    }

    #[test]
    fn what_waited_over_time_is_what_waited() {
        let over = moments().over_time();
        let sum = over
            .columns
            .iter()
            .fold(Waiting::default(), |mut sum, column| {
                sum.add(column);
                sum
            });
        // To the nanosecond in each column, rounded down.
        let waited: u64 = sum.0.iter().sum();
        assert!((60 * MS - 1000..=60 * MS).contains(&waited), "{waited}");
    }

    #[test]
    fn goroutines_without_room_are_counted() {
        let mut moments = moments();
        for goroutine in 10..30 {
            let wait = Wait {
                goroutine,
                lock: LOCK,
                start_ns: START + 20 * MS,
                end_ns: START + 41 * MS,
                ..Wait::default()
            };
            moments.span(&Span::Wait(wait), START);
        }
        let moment = &moments.worst(&trace(), START)[0];
        assert_eq!(moment.lanes.len(), LANES);
        assert_eq!(moment.lanes.len() + moment.not_drawn, 3 + 20);
    }

    #[test]
    fn the_programs_own_frame_is_named() {
        let frame = |function: &str| Frame {
            function: function.to_owned(),
            file: String::new(),
            line: 1,
        };
        let name = |stack: &[&str]| {
            let stack: Vec<_> = stack.iter().map(|it| frame(it)).collect();
            own(&stack).map(|frame| frame.function.clone())
        };
        let found = name(&["runtime.x", "net.(*conn).Write", "shop.example/cart.Add"]);
        assert_eq!(found.as_deref(), Some("shop.example/cart.Add"));
        assert_eq!(name(&["runtime.x", "net.y"]).as_deref(), Some("net.y"));
        assert_eq!(name(&[]), None);
    }
}
