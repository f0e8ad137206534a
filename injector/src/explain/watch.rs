//! A map that hardware watches: who was in which operation for how long, and
//! who was in one at the same time. Pure.
//!
//! The runtime sets a bit of the map's header when a write begins and takes it
//! back at its end, and both are told. Two goroutines that are in between at
//! once were ordered by no lock: that is proven, not concluded.

use std::collections::{BTreeMap, HashMap};

use injector_ebpf::go::{Event, EventRecord};

use super::Times;
use crate::go::{self, Frame};

/// Goroutines and callers that are told apart; more are counted together.
const MOST: usize = 256;
/// Overlaps that are kept with their stacks.
const MOST_OVERLAPS: usize = 16;

/// Frames of a stack: an instruction, then return addresses, innermost first.
pub type Names<'a> = &'a dyn Fn(&[u64]) -> Vec<Frame>;

/// What is known of a watched map.
#[derive(Debug, Default)]
pub struct Watched {
    /// How long operations took, in nanoseconds. The price of a hit is in it.
    pub times: Times,
    /// Hits.
    pub hits: u64,
    /// Hits that two watchpoints of one thread told: counted once.
    pub repeated: u64,
    /// Operations that had begun before the map was watched.
    pub cut: u64,
    /// Hits that changed other flags of the map, by iterations or growth.
    pub other_flags: u64,
    /// Hits by functions that are none of the runtime's for maps: the address
    /// belongs to something else by now.
    pub foreign: u64,
    /// Operations by goroutine.
    pub goroutines: BTreeMap<u64, Share>,
    /// Operations by the function and line that called.
    pub callers: HashMap<(String, u32), Share>,
    /// How often two goroutines were in operations at once.
    pub overlapping: u64,
    /// The first of those, with their stacks.
    pub overlaps: Vec<Overlap>,
    /// Hits that were lost: who was inside then is not known.
    pub lost: u64,
    inside: BTreeMap<u64, Side>,
    last: Option<EventRecord>,
    functions: HashMap<u64, Place>,
}

/// Operations of one goroutine or caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub operations: u64,
    /// How long they took together, in nanoseconds.
    pub ns: u64,
}

impl Share {
    fn add(&mut self, ns: u64) {
        self.operations += 1;
        self.ns += ns;
    }
}

/// A goroutine in an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Number of the goroutine.
    pub goroutine: u64,
    /// The thread that it ran on.
    pub tid: u32,
    /// When it began.
    pub since_ns: u64,
    /// What it does, by its stack.
    pub operation: Option<Event>,
    /// The instruction that wrote the flag, then return addresses.
    pub stack: Vec<u64>,
}

/// Two goroutines in operations on one map at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one that was in first.
    pub first: Side,
    /// The one that came.
    pub second: Side,
}

/// What the instruction that wrote belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A function for maps.
    Map(Option<Event>),
    /// Another.
    Elsewhere,
}

impl Watched {
    /// A hit; true when it proved another overlap.
    pub fn feed(&mut self, event: &EventRecord, names: Names<'_>) -> bool {
        self.hits += 1;
        if event.iterator != self.lost {
            self.lost = event.iterator;
            self.inside.clear();
            self.last = None;
        }
        if self.last.is_some_and(|last| is_repeated(&last, event)) {
            self.repeated += 1;
            return false;
        }
        self.last = Some(*event);
        let stack = event.frames[..usize::from(event.depth).min(event.frames.len())].to_vec();
        let place = self.place(&stack, names);
        let Place::Map(operation) = place else {
            self.foreign += 1;
            return false;
        };
        let marks = event.kind == Event::WatchSet as u8;
        let goroutine = event.goroutine_id;
        let side = Side {
            goroutine,
            tid: event.tid,
            since_ns: event.time_ns,
            operation,
            stack,
        };
        if let Some(open) = self.inside.get(&goroutine) {
            if marks {
                self.other_flags += 1;
                return false;
            }
            let ns = event.time_ns.saturating_sub(open.since_ns);
            let open = self.inside.remove(&goroutine);
            self.end(open.map(|open| open.stack), goroutine, ns, names);
            return false;
        }
        // Iterations set flags of their own, which says nothing of the bit.
        let iterates = matches!(
            operation,
            Some(Event::IterateStart | Event::IterateNext | Event::Access)
        );
        let others = !self.inside.is_empty();
        if !others && (!marks || iterates) {
            if iterates {
                self.other_flags += 1;
            } else {
                self.cut += 1;
            }
            return false;
        }
        // Of Swiss maps the bit is toggled, so a second writer takes it back.
        for first in self.inside.values() {
            self.overlapping += 1;
            if self.overlaps.len() < MOST_OVERLAPS {
                self.overlaps.push(Overlap {
                    first: first.clone(),
                    second: side.clone(),
                });
            }
        }
        if !iterates && self.inside.len() < MOST {
            self.inside.insert(goroutine, side);
        }
        others
    }

    fn end(&mut self, stack: Option<Vec<u64>>, goroutine: u64, ns: u64, names: Names<'_>) {
        self.times.record(ns);
        if self.goroutines.len() < MOST || self.goroutines.contains_key(&goroutine) {
            self.goroutines.entry(goroutine).or_default().add(ns);
        } else {
            // Goroutine 0 is none of the program's.
            self.goroutines.entry(0).or_default().add(ns);
        }
        let frames = names(&stack.unwrap_or_default()).into_iter();
        let mut callers = frames.filter(|frame| !go::is_runtime(&frame.function));
        let caller = callers.next();
        let key = caller.map_or_else(Default::default, |frame| (frame.function, frame.line));
        if self.callers.len() < MOST || self.callers.contains_key(&key) {
            self.callers.entry(key).or_default().add(ns);
        } else {
            self.callers.entry(Default::default()).or_default().add(ns);
        }
    }

    /// By the function that wrote, and those that called it within the runtime.
    fn place(&mut self, stack: &[u64], names: Names<'_>) -> Place {
        let Some(instruction) = stack.first() else {
            return Place::Elsewhere;
        };
        if let Some(place) = self.functions.get(instruction) {
            return *place;
        }
        let frames = names(&stack[..stack.len().min(3)]);
        let functions: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
        let operation = functions.iter().find_map(|name| go::operation(name));
        let inside = functions.first().is_some_and(|name| {
            name.starts_with("internal/runtime/maps.")
                || ["runtime.map", "runtime.hashGrow", "runtime.evacuate"]
                    .iter()
                    .any(|start| name.starts_with(start))
        });
        let place = if inside || operation.is_some() {
            Place::Map(operation)
        } else {
            Place::Elsewhere
        };
        if self.functions.len() < MOST {
            self.functions.insert(*instruction, place);
        }
        place
    }
}

/// A thread that began while others were given their watchpoints can have two of
/// one map: then each write is told twice. One goroutine cannot write the flag
/// at one place twice with nothing in between.
fn is_repeated(last: &EventRecord, event: &EventRecord) -> bool {
    last.goroutine_id == event.goroutine_id
        && last.tid == event.tid
        && last.frames[0] == event.frames[0]
        && last.kind == event.kind
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGN: u64 = 0x1000;
    const ITERATE: u64 = 0x1100;
    const ELSEWHERE: u64 = 0x1200;

    fn names(stack: &[u64]) -> Vec<Frame> {
        let frame = |address: &u64| Frame {
            function: match *address & !0xff {
                ASSIGN => "runtime.mapassign_fast64",
                ITERATE => "runtime.mapiterinit",
                ELSEWHERE => "runtime.memclrNoHeapPointers",
                _ => "main.put",
            }
            .to_owned(),
            file: String::new(),
            line: 7,
        };
        stack.iter().map(frame).collect()
    }

    fn hit(goroutine: u64, time: u64, at: u64, kind: Event) -> EventRecord {
        EventRecord {
            time_ns: time,
            goroutine_id: goroutine,
            tid: goroutine as u32,
            kind: kind as u8,
            depth: 2,
            frames: [at, 0x9000, 0, 0, 0, 0, 0, 0, 0, 0],
            ..EventRecord::default()
        }
    }

    fn feed(hits: &[EventRecord]) -> Watched {
        let mut watched = Watched::default();
        for hit in hits {
            watched.feed(hit, &names);
        }
        watched
    }

    use Event::{WatchClear as Clear, WatchSet as Set};

    #[test]
    fn operations_are_timed_and_told_apart() {
        let watched = feed(&[
            hit(7, 100, ASSIGN, Set),
            // A growth changes other flags.
            hit(7, 120, ASSIGN + 8, Set),
            hit(7, 150, ASSIGN + 16, Clear),
            hit(8, 200, ASSIGN, Set),
            hit(8, 230, ASSIGN + 16, Clear),
        ]);
        assert_eq!((watched.times.count(), watched.other_flags), (2, 1));
        let share = |operations, ns| Some(&Share { operations, ns }).copied();
        assert_eq!(watched.goroutines.get(&7).copied(), share(1, 50));
        let caller = ("main.put".to_owned(), 7);
        assert_eq!(watched.callers.get(&caller).copied(), share(2, 80));
        assert_eq!(watched.overlapping, 0);
    }

    /// The second writer of a Swiss map takes the bit back.
    #[test]
    fn two_inside_are_an_overlap_whatever_the_bit_says() {
        for second in [Set, Clear] {
            let watched = feed(&[
                hit(7, 100, ASSIGN, Set),
                hit(8, 110, ASSIGN, second),
                hit(7, 150, ASSIGN + 16, Clear),
            ]);
            assert_eq!(watched.overlapping, 1);
            let overlap = &watched.overlaps[0];
            let sides = (overlap.first.goroutine, overlap.second.goroutine);
            assert_eq!(sides, (7, 8));
            assert_eq!(overlap.second.operation, Some(Event::Assign));
        }
    }

    #[test]
    fn iterations_open_nothing_and_overlap_writes() {
        let watched = feed(&[
            hit(8, 90, ITERATE, Clear),
            hit(7, 100, ASSIGN, Set),
            hit(8, 110, ITERATE, Set),
            hit(7, 150, ASSIGN + 16, Clear),
        ]);
        assert_eq!((watched.overlapping, watched.other_flags), (1, 1));
        assert_eq!(watched.times.count(), 1);
    }

    /// Who was inside may have gone out.
    #[test]
    fn nothing_is_proven_over_lost_hits() {
        let mut after = hit(8, 200, ASSIGN, Set);
        after.iterator = 3;
        let watched = feed(&[hit(7, 100, ASSIGN, Set), after]);
        assert_eq!((watched.overlapping, watched.lost), (0, 3));
    }

    #[test]
    fn what_is_no_operation_does_not_count() {
        let watched = feed(&[
            // Begun before.
            hit(7, 100, ASSIGN + 16, Clear),
            hit(7, 110, ASSIGN, Set),
            // Told twice.
            hit(7, 111, ASSIGN, Set),
            hit(7, 150, ASSIGN + 16, Clear),
            hit(9, 160, ELSEWHERE, Clear),
        ]);
        assert_eq!((watched.cut, watched.repeated), (1, 1));
        assert_eq!((watched.foreign, watched.times.count()), (1, 1));
    }
}
