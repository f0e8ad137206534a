//! What goroutines do with maps and locks: from single events to who touches
//! what, who waits for whom, and what may go wrong.
//!
//! A [`Trace`] is of one program. It is fed events in the order of time, told
//! when which kinds of events were seen, and told what addresses stand for; it
//! reads nothing itself. It takes at most some 50 MiB, whatever it is fed (and what
//! [`Blame`] keeps where sends are told): each of its tables says how much it keeps.
//! What has to make room is summed up where that makes sense, and counted in any
//! case ([`Limits`]). An event of known goroutines, maps, locks and stacks allocates
//! nothing.

mod ask;
mod blame;
mod conclude;
mod fact;
mod finding;
mod gc;
mod goroutine;
mod lock;
mod map;
mod shown;
mod span;
mod symbols;
mod sync_map;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod windows;

use std::collections::HashMap;

use injector_ebpf::{
    SendRecord,
    go::{Event, EventRecord},
};

use crate::go::MapKind;

pub use super::Confidence;
pub use blame::{Blame, Group, Parts};
pub use fact::{Fact, Unknown};
pub use finding::{About, Claim, Figure, Finding, Party, Seen};
pub use lock::{LockLayout, NoLocks, Waits};
pub use map::{Class, Ops};
#[cfg(test)]
pub use span::Holder;
pub use span::{Cause, Growth, Hold, Iteration, Span, Wait};
pub use symbols::{StackId, Symbols};
#[cfg(test)]
pub use sync_map::SyncOps;
pub use view::{Arrangement, Collections, LockView, MapView, SummedUp, SyncView};
#[cfg(test)]
pub use view::{GuardView, Place};
pub use windows::Kinds;

use gc::Gc;
use goroutine::{Goroutine, Held, Origins};
use lock::{How, Locks};
use map::{Around, Maps, Name, SameStruct};
use span::Spans;
use symbols::Stacks;
use sync_map::SyncMaps;
use table::Table;
use windows::Windows;

/// Names of map types that are kept.
const TYPES: usize = 2048;

/// Goroutines that are kept apart, 0.4 KiB each. Numbers of goroutines are
/// never used again, so this is also how many may be in between.
const GOROUTINES: usize = 16384;
/// How long after a contended lock was got the use of a map counts as under it,
/// in nanoseconds: an uncontended release is not seen.
const UNDER_NS: u64 = 100_000_000;

/// What had no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Goroutines that were forgotten.
    pub goroutines: u64,
    /// Maps that are only known summed up with others.
    pub maps: u64,
    /// `sync.Map`s of which only the number of operations is known.
    pub sync_maps: u64,
    /// Locks and semaphores that are only known summed up.
    pub locks: u64,
    /// Events whose stack was not looked up.
    pub stacks: u64,
    /// Waits that ended and were not seen to begin.
    pub unmatched_waits: u64,
    /// Events without a goroutine, or of a kind that is not known.
    pub unusable: u64,
}

impl Limits {
    /// Each with its name and meaning.
    pub fn rows(&self) -> [(&'static str, u64, &'static str); 7] {
        [
            (
                "goroutines",
                self.goroutines,
                "Goroutines that were forgotten to make room.",
            ),
            (
                "maps",
                self.maps,
                "Maps that were summed up with others of their sort to make room.",
            ),
            (
                "sync_maps",
                self.sync_maps,
                "sync.Maps of which only operations were counted, to make room.",
            ),
            (
                "locks",
                self.locks,
                "Locks and semaphores that were summed up to make room.",
            ),
            ("stacks", self.stacks, "Events whose stack had no room."),
            (
                "unmatched_waits",
                self.unmatched_waits,
                "Waits that ended and were not seen to begin.",
            ),
            (
                "unusable",
                self.unusable,
                "Events without a goroutine or of an unknown kind.",
            ),
        ]
    }
}

/// All that is known of one program's maps and locks.
#[derive(Debug)]
pub struct Trace {
    start_ns: u64,
    latest_ns: u64,
    kind: MapKind,
    windows: Windows,
    stacks: Stacks,
    goroutines: Table<Goroutine>,
    origins: Origins,
    maps: Maps,
    sync_maps: SyncMaps,
    locks: Locks,
    gc: Gc,
    spans: Spans,
    types: HashMap<u64, (Option<String>, u8)>,
    told: HashMap<(Claim, u64), Confidence>,
    range_ends_are_seen: bool,
    asked_ns: Option<u64>,
    events: u64,
    unusable: u64,
}

impl Trace {
    /// Of a program with this kind of maps and such locks, traced from `start_ns`
    /// on (`CLOCK_MONOTONIC`).
    pub fn new(start_ns: u64, kind: MapKind, locks: LockLayout) -> Self {
        Self {
            start_ns,
            latest_ns: start_ns,
            kind,
            windows: Windows::default(),
            stacks: Stacks::default(),
            goroutines: Table::new(GOROUTINES),
            origins: Origins::default(),
            maps: Maps::default(),
            sync_maps: SyncMaps::default(),
            locks: Locks::new(locks),
            gc: Gc::default(),
            spans: Spans::default(),
            types: HashMap::new(),
            told: HashMap::new(),
            range_ends_are_seen: false,
            asked_ns: None,
            events: 0,
            unusable: 0,
        }
    }

    /// Adds an event. They come in the order of time; small disorder makes
    /// some times too short, nothing worse.
    pub fn feed(&mut self, event: &EventRecord, symbols: &dyn Symbols) {
        self.events += 1;
        self.latest_ns = self.latest_ns.max(event.time_ns);
        let time_ns = event.time_ns;
        let id = event.goroutine_id;
        let kind = match Event::from_number(event.kind) {
            Some(kind @ (Event::GcStart | Event::GcEnd | Event::WorldStop | Event::WorldStart)) => {
                return self.collector(kind, time_ns);
            }
            Some(Event::NoCpu) => return self.no_cpu(id, time_ns, event.iterator),
            // What leads to a fatal error is told apart; where a goroutine is
            // from is asked for when that matters.
            Some(
                Event::GoroutineStart
                | Event::GoroutineEnd
                | Event::Panic
                | Event::Fatal
                | Event::Throw,
            ) => return,
            Some(kind) if id != 0 => kind,
            _ => {
                self.unusable += 1;
                return;
            }
        };
        let stack_id = self.stacks.of(event, symbols);
        let stack = self.stacks.get(stack_id);
        let Self {
            goroutines,
            locks,
            maps,
            sync_maps,
            gc,
            spans,
            ..
        } = self;
        let who = goroutines.entry(id, Goroutine::default, |_, gone| locks.forget(&gone));
        who.address = event.goroutine;
        who.last_ns = time_ns;
        match kind {
            Event::SemaphoreAcquired => return locks.acquired(who, time_ns),
            Event::SemaphoreAcquire => {
                return locks.acquire(who, event, (stack_id, stack), gc, spans);
            }
            _ => locks.settle(id, who, gc, spans),
        }
        if !self.range_ends_are_seen
            && kind != Event::SyncMapRangeEnd
            && let Some(map) = who.range.take()
        {
            sync_maps.range_ends(map, id, time_ns, spans);
        }
        let how = match kind {
            Event::LockSlow => return locks.not_free(who, event, stack_id, stack),
            Event::WriteLock => return locks.write_lock(who, event, stack.site),
            Event::UnlockSlow => How::Mutex,
            Event::ReadUnlockSlow => How::Reader,
            Event::WriteUnlock => How::Writer,
            Event::SemaphoreRelease => How::Semaphore,
            Event::SyncMapRangeEnd => {
                self.range_ends_are_seen = true;
                let map = who.range.take().unwrap_or(event.subject);
                return sync_maps.range_ends(map, id, time_ns, spans);
            }
            Event::SyncMapLoad
            | Event::SyncMapStore
            | Event::SyncMapLoadOrStore
            | Event::SyncMapDelete
            | Event::SyncMapRange => {
                who.sync_map = event.subject;
                if kind == Event::SyncMapRange {
                    who.range = Some(event.subject);
                }
                return sync_maps.operate(event, kind, stack_id, stack.site);
            }
            _ => {
                let held = *who;
                let around = Around {
                    id: stack_id,
                    stack,
                    in_gc: gc.collections.lasts(),
                };
                let goroutines = &self.goroutines;
                let origin = |id| goroutines.get(id).map_or(0, |one| one.origin);
                let map = maps.operate(event, kind, &around, origin, spans);
                if held.holds() {
                    let who = self.goroutines.get_mut(id);
                    for held in who.into_iter().flat_map(Goroutine::held) {
                        let fresh = time_ns.saturating_sub(held.since_ns) < UNDER_NS;
                        if (held.certain || fresh) && held.use_map(event.subject) {
                            map.under.of(held.lock).followed += 1;
                        }
                    }
                }
                return;
            }
        };
        let held = locks.release(id, who, event, how, (stack_id, stack.site), spans);
        self.enclosed(held, how);
    }

    fn no_cpu(&mut self, goroutine: u64, end: u64, length: u64) {
        if let Some(blame) = &mut self.locks.blame {
            let start = end.saturating_sub(length);
            blame.no_cpu(goroutine, blame::Span { start, end });
        }
    }

    fn collector(&mut self, kind: Event, time_ns: u64) {
        let Gc {
            collections,
            pauses,
        } = &mut self.gc;
        let span = match kind {
            Event::GcStart => return collections.begin(time_ns),
            Event::WorldStop => return pauses.begin(time_ns),
            Event::GcEnd => collections
                .end(time_ns)
                .map(|(start_ns, end_ns)| Span::Collection { start_ns, end_ns }),
            _ => pauses
                .end(time_ns)
                .map(|(start_ns, end_ns)| Span::Pause { start_ns, end_ns }),
        };
        if let Some(span) = span {
            self.spans.push(span);
        }
    }

    fn enclosed(&mut self, held: Option<Held>, how: How) {
        let Some(held) = held else { return };
        for map in held.maps() {
            if let Some(map) = self.maps.get_mut(map) {
                let under = map.under.of(held.lock);
                under.enclosed += 1;
                under.certain += u64::from(held.certain && how == How::Writer);
            }
        }
    }

    /// Sends are told from now on, too, each before the events that came after its
    /// end: waits are laid to what the holder did meanwhile.
    pub fn expect_sends(&mut self) {
        self.locks.blame = Some(Blame::default());
    }

    /// A goroutine of this program has sent.
    pub fn send(&mut self, record: &SendRecord) {
        if let Some(blame) = &mut self.locks.blame {
            blame.send(record);
        }
    }

    /// What sends have made goroutines wait, if sends are told.
    pub fn blame(&self) -> Option<&Blame> {
        self.locks.blame.as_ref()
    }

    /// A window is over, and its events were fed: from `start_ns` to `end_ns`
    /// these kinds were seen. Kinds that are always seen need none.
    pub fn window(&mut self, start_ns: u64, end_ns: u64, kinds: Kinds) {
        self.windows.add(start_ns, end_ns, kinds);
        self.advance(end_ns);
    }

    /// Other kinds of events are seen from now on, or some were lost: what goes on is not known any more.
    pub fn gap(&mut self) {
        self.maps.gap(&mut self.spans);
        self.sync_maps.gap();
        for (_, who) in self.goroutines.iter_mut() {
            who.range = None;
            who.forget_held();
        }
    }

    /// Time has come this far, whether or not there were events. To be called
    /// now and then, and before anything is asked.
    pub fn advance(&mut self, now_ns: u64) {
        self.latest_ns = self.latest_ns.max(now_ns);
        // One that waited for another that waited comes after it.
        let over = self.goroutines.iter().filter_map(|(id, who)| {
            let ended_ns = who.wait?.ended_ns?;
            Some((ended_ns, id))
        });
        let mut over: Vec<_> = over.collect();
        over.sort_unstable();
        for (_, id) in over {
            if let Some(who) = self.goroutines.get_mut(id) {
                self.locks.settle(id, who, &self.gc, &mut self.spans);
            }
        }
    }

    /// Adds what was found out.
    pub fn learn(&mut self, fact: Fact, symbols: &dyn Symbols) {
        match fact {
            Fact::Goroutine {
                id, creator, start, ..
            } => {
                if let Some(one) = self.goroutines.get_mut(id) {
                    one.origin = self.origins.of(creator, start, symbols);
                }
            }
            Fact::MapType { address, name } => {
                if self.types.len() < TYPES || self.types.contains_key(&address) {
                    self.types.entry(address).or_default().0 = Some(name);
                }
            }
            Fact::Name {
                address,
                name,
                measured,
            } => {
                let name = Some(Name {
                    text: name,
                    measured,
                });
                if let Some(map) = self.maps.get_mut(address) {
                    map.name.clone_from(&name);
                }
                if let Some(map) = self.sync_maps.get_mut(address) {
                    map.name.clone_from(&name);
                }
                if let Some(lock) = self.locks.get_mut(address) {
                    lock.name = name;
                }
            }
            Fact::MapSize {
                address,
                elements,
                buckets_or_tables,
            } => {
                if let Some(map) = self.maps.get_mut(address) {
                    map.size = Some((elements, buckets_or_tables));
                }
            }
            Fact::Guard {
                lock,
                map,
                distance,
                fields,
            } => {
                if let Some(map) = self.maps.get_mut(map) {
                    map.same_struct = Some(SameStruct {
                        lock,
                        distance,
                        fields,
                    });
                }
            }
        }
    }

    /// How many events were fed.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What had no room.
    pub fn limits(&self) -> Limits {
        Limits {
            goroutines: self.goroutines.given_up(),
            maps: self.maps.given_up(),
            sync_maps: self.sync_maps.given_up(),
            locks: self.locks.given_up(),
            stacks: self.stacks.not_kept(),
            unmatched_waits: self.locks.unmatched,
            unusable: self.unusable,
        }
    }
}
