//! Stacks and what they cost: what profiles, folded stacks and flame graphs are
//! made of.

use std::{cmp::Reverse, collections::HashMap, hash::Hash};

use injector_ebpf::{
    SendRecord,
    go::{Event, EventRecord, OP_FRAMES},
};

use super::maps_finding::called;
use crate::{
    explain::{
        SendView,
        maps::{About, Span, StackId, Wait},
    },
    go::Frame,
    recording::replay::{Program, Watcher},
};

/// Different stacks, with what goes with them, that one profile keeps apart. What
/// further ones cost is put together.
const DIFFERENT: usize = 65_536;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What was counted or measured.
    pub name: &'static str,
    /// `count` or `nanoseconds`.
    pub unit: &'static str,
}

/// One stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Innermost first.
    pub stack: Vec<Frame>,
    /// What else tells it from others: kind and value.
    pub labels: Vec<(&'static str, String)>,
    /// How often.
    pub count: u64,
    /// What it cost, in the unit of [`Profile::cost`]; 0 if it is only counted.
    pub cost: u64,
}

/// Stacks of one sort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Such as `delay`: the name of its file.
    pub name: &'static str,
    /// In a sentence, what it shows.
    pub what: &'static str,
    /// What [`Sample::count`] counts.
    pub count: &'static str,
    /// What [`Sample::cost`] is, if there is one.
    pub cost: Option<Value>,
    /// Of the labels, the one that stands for what the stack is about.
    pub about: Option<&'static str>,
    /// Those that cost most first.
    pub samples: Vec<Sample>,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let label = self.labels.iter().find(|(known, _)| *known == key);
        label.map(|(_, value)| value.as_str())
    }
}

impl Profile {
    /// The cost of a sample, or how often it was if that is all there is.
    pub fn weight(&self, sample: &Sample) -> u64 {
        match self.cost {
            Some(_) => sample.cost,
            None => sample.count,
        }
    }
}

/// Count and cost by what they belong to; of further keys, together.
#[derive(Debug)]
struct Sums<K> {
    known: HashMap<K, (u64, u64)>,
    others: (u64, u64),
}

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            others: (0, 0),
        }
    }
}

impl<K: Eq + Hash> Sums<K> {
    fn add(&mut self, key: K, count: u64, cost: u64) {
        let sum = if self.known.len() < DIFFERENT {
            self.known.entry(key).or_default()
        } else {
            self.known.get_mut(&key).unwrap_or(&mut self.others)
        };
        sum.0 += count;
        sum.1 = sum.1.saturating_add(cost);
    }

    fn samples(
        self,
        sample: impl Fn(K) -> (Vec<Frame>, Vec<(&'static str, String)>),
    ) -> Vec<Sample> {
        let known = self.known.into_iter().map(|(key, (count, cost))| {
            let (stack, labels) = sample(key);
            Sample {
                stack,
                labels,
                count,
                cost,
            }
        });
        let others = Sample {
            stack: vec![no_frame("further stacks")],
            labels: Vec::new(),
            count: self.others.0,
            cost: self.others.1,
        };
        let mut samples: Vec<_> = known.chain([others]).collect();
        samples.retain(|sample| sample.count + sample.cost > 0);
        samples.sort_by(|a, b| {
            let key = |it: &Sample| (Reverse(it.cost), Reverse(it.count));
            key(a)
                .cmp(&key(b))
                .then_with(|| a.labels.cmp(&b.labels))
                .then_with(|| functions(a).cmp(functions(b)))
        });
        samples
    }
}

fn functions(sample: &Sample) -> impl Iterator<Item = (&str, u32)> {
    let stack = sample.stack.iter();
    stack.map(|frame| (frame.function.as_str(), frame.line))
}

/// What stands where there is no function.
fn no_frame(why: &str) -> Frame {
    Frame {
        function: format!("[{why}]"),
        file: String::new(),
        line: 0,
    }
}

fn or_unknown(stack: &[Frame]) -> Vec<Frame> {
    match stack {
        [] => vec![no_frame("stack not seen")],
        stack => stack.to_vec(),
    }
}

/// Who had the lock during a part of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Held {
    /// One that released it here.
    By(StackId),
    /// Nobody any more: until the waiter ran.
    NoMore,
    /// Nobody was seen to release it.
    Unseen,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Waited {
    pid: u32,
    lock: u64,
    what: &'static str,
    waiter: StackId,
    held: Held,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Operation {
    pid: u32,
    kind: u8,
    map: u64,
    frames: [u64; OP_FRAMES],
}

/// Sums up a run as it passes by.
#[derive(Debug, Default)]
pub struct Profiler {
    delays: Sums<(Vec<Frame>, u32, String)>,
    waits: Sums<Waited>,
    operations: Sums<Operation>,
    stacks: HashMap<(u32, [u64; OP_FRAMES]), Vec<Frame>>,
}

impl Profiler {
    /// A span of the process with this id.
    fn waited(&mut self, pid: u32, span: &Span) {
        let Span::Wait(wait) = span else { return };
        let mut parts = held(wait);
        let longest = parts.iter().map(|(_, ns)| *ns).max().unwrap_or(0);
        // One wait counts once, whoever had the lock meanwhile.
        let mut counted = false;
        for (held, ns) in parts.drain(..) {
            let count = u64::from(ns == longest && !counted);
            counted |= count > 0;
            let key = Waited {
                pid,
                lock: wait.lock,
                what: wait.what,
                waiter: wait.stack,
                held,
            };
            self.waits.add(key, count, ns);
        }
    }

    /// All profiles, with the names that are known of these programs in the end.
    pub fn profiles(self, programs: &[Program]) -> [Profile; 3] {
        let trace = |pid| {
            let program = programs.iter().find(|program| program.pid == pid);
            program.map(|program| &program.trace)
        };
        let Self {
            delays,
            waits,
            operations,
            stacks,
        } = self;
        let delays = delays
            .samples(|(stack, pid, comm)| (stack, vec![("comm", comm), ("pid", pid.to_string())]));
        let waits = waits.samples(|key| {
            let trace = trace(key.pid);
            let frames = |stack| trace.map_or(&[][..], |trace| trace.frames(stack));
            let stack = match key.held {
                Held::By(stack) => or_unknown(frames(stack)),
                Held::NoMore => vec![no_frame("not held any more")],
                Held::Unseen => vec![no_frame("holder not seen")],
            };
            let place = trace.and_then(|trace| trace.place(key.waiter));
            let waiter = place.map_or("not known", |frame| &frame.function);
            let about = trace.and_then(|trace| trace.lock_at(key.lock));
            let labels = vec![
                ("lock", name(about, key.what, key.lock)),
                ("waiter", waiter.to_owned()),
                ("pid", key.pid.to_string()),
            ];
            (stack, labels)
        });
        let operations = operations.samples(|key| {
            let about = trace(key.pid).and_then(|trace| trace.map_at(key.map));
            let kind = Event::from_number(key.kind).map_or("unknown", Event::name);
            let labels = vec![
                ("map", name(about, "map", key.map)),
                ("operation", kind.to_owned()),
                ("pid", key.pid.to_string()),
            ];
            let stack = stacks.get(&(key.pid, key.frames));
            (stack.cloned().unwrap_or_else(|| or_unknown(&[])), labels)
        });
        let ns = |name| {
            Some(Value {
                name,
                unit: "nanoseconds",
            })
        };
        [
            Profile {
                name: "delay",
                what: "delay that was injected, by where was sent",
                count: "sends",
                cost: ns("delay"),
                about: None,
                samples: delays,
            },
            Profile {
                name: "wait",
                what: "time that goroutines waited, by where those that had the lock released it",
                count: "waits",
                cost: ns("wait"),
                about: Some("lock"),
                samples: waits,
            },
            Profile {
                name: "map_ops",
                what: "operations on maps that were seen, by where they were done",
                count: "operations",
                cost: None,
                about: Some("map"),
                samples: operations,
            },
        ]
    }
}

impl Watcher for Profiler {
    fn send(&mut self, record: &SendRecord, stack: &[Frame]) {
        let send = SendView::new(record);
        if let Some(ns) = send.delivered() {
            let key = (or_unknown(stack), record.tgid, send.comm().to_string());
            self.delays.add(key, 1, ns);
        }
    }

    fn event(&mut self, pid: u32, event: &EventRecord, stack: &[Frame]) {
        let Some(kind) = Event::from_number(event.kind).filter(|kind| asked_for(*kind)) else {
            return;
        };
        let depth = usize::from(event.depth).min(OP_FRAMES);
        let mut frames = [0; OP_FRAMES];
        frames[..depth].copy_from_slice(&event.frames[..depth]);
        if self.stacks.len() < DIFFERENT && !self.stacks.contains_key(&(pid, frames)) {
            self.stacks.insert((pid, frames), or_unknown(stack));
        }
        let operation = Operation {
            pid,
            kind: kind as u8,
            map: event.subject,
            frames,
        };
        self.operations.add(operation, 1, 0);
    }

    fn wants_spans(&self) -> bool {
        true
    }

    fn span(&mut self, program: &Program, span: &Span) {
        self.waited(program.pid, span);
    }
}

/// Whether the program asked for it: growth is part of a write.
fn asked_for(kind: Event) -> bool {
    kind.is_map_op() && !matches!(kind, Event::Grow | Event::GrowStep)
        || matches!(
            kind,
            Event::SyncMapLoad
                | Event::SyncMapStore
                | Event::SyncMapLoadOrStore
                | Event::SyncMapDelete
                | Event::SyncMapRange
        )
}

/// A wait in parts, which add up to it.
fn held(wait: &Wait) -> Vec<(Held, u64)> {
    let mut from = wait.start_ns;
    let mut parts: Vec<_> = wait
        .holders
        .iter()
        .map(|holder| {
            let until = holder.until_ns.clamp(from, wait.end_ns.max(from));
            let ns = until - from;
            from = until;
            (Held::By(holder.stack), ns)
        })
        .collect();
    let rest = wait.end_ns.saturating_sub(from);
    let last = if parts.is_empty() {
        Held::Unseen
    } else {
        Held::NoMore
    };
    parts.push((last, rest));
    parts.retain(|(_, ns)| *ns > 0);
    parts
}

/// What a lock or map is called.
pub(super) fn name(about: Option<About>, what: &str, address: u64) -> String {
    match about {
        Some(about) => format!("{} {}", about.what, called(&about)),
        None if address == 0 => what.to_owned(),
        None => format!("{what} at {address:#x}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::explain::{fixture, maps::Holder};

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            function: function.to_owned(),
            file: "/src/main.go".to_owned(),
            line,
        }
    }

    /// Two sends from one place, one from elsewhere that was not delayed; a wait
    /// that two goroutines are to blame for; three reads of a map.
    pub fn profiles() -> [Profile; 3] {
        let mut profiler = Profiler::default();
        let stack = [frame("main.send", 7), frame("main.main", 3)];
        for delay in [1000, 500] {
            profiler.send(&fixture::delayed(delay, delay, 5), &stack);
        }
        profiler.send(&fixture::send(), &stack[1..]);
        let wait = Wait {
            goroutine: 2,
            lock: 0x2000,
            what: "Mutex",
            start_ns: 100,
            end_ns: 200,
            holders: [(1, 130), (3, 190)]
                .map(|(goroutine, until_ns)| Holder {
                    goroutine,
                    until_ns,
                    stack: goroutine as u16,
                })
                .into(),
            ..Wait::default()
        };
        profiler.waited(7, &Span::Wait(wait));
        for kind in [Event::Access, Event::Access, Event::Assign, Event::Grow] {
            let event = EventRecord {
                kind: kind as u8,
                subject: 0x1000,
                depth: 1,
                ..EventRecord::default()
            };
            profiler.event(7, &event, &stack[1..]);
        }
        profiler.profiles(&[])
    }

    #[test]
    fn delays_are_summed_by_stack() {
        let [delay, ..] = profiles();
        let [sample] = &delay.samples[..] else {
            panic!("one stack: {delay:?}");
        };
        assert_eq!((sample.count, sample.cost), (2, 1500));
        assert_eq!(sample.stack[0].function, "main.send");
        assert_eq!(sample.label("comm"), Some("order-api"));
    }

    #[test]
    fn a_wait_is_shared_out_among_those_who_had_the_lock() {
        let [_, wait, _] = profiles();
        let costs: Vec<_> = wait.samples.iter().map(|it| (it.count, it.cost)).collect();
        // One wait, counted where most of it was; the last ten belong to nobody.
        assert_eq!(costs, [(1, 60), (0, 30), (0, 10)]);
        assert_eq!(wait.samples[2].stack[0].function, "[not held any more]");
        assert_eq!(wait.samples[0].label("lock"), Some("Mutex at 0x2000"));
    }

    #[test]
    fn operations_are_counted_by_kind_and_growth_is_none() {
        let [.., operations] = profiles();
        let told = |it: &Sample| (it.label("operation").unwrap().to_owned(), it.count);
        let told: Vec<_> = operations.samples.iter().map(told).collect();
        assert_eq!(told, [("access".to_owned(), 2), ("assign".to_owned(), 1)]);
    }

    #[test]
    fn what_has_no_room_is_put_together() {
        let mut sums = Sums::default();
        for key in 0..DIFFERENT as u64 + 10 {
            sums.add(key, 1, 2);
        }
        sums.add(5, 1, 2);
        let samples = sums.samples(|key| (vec![frame("f", key as u32)], Vec::new()));
        assert_eq!(samples.len(), DIFFERENT + 1);
        let first = &samples[0];
        assert_eq!(first.stack[0].function, "[further stacks]");
        assert_eq!((first.count, first.cost), (10, 20));
    }
}
