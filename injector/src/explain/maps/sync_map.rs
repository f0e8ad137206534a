//! Who does what with one `sync.Map`, and what its `Range` may miss.

use injector_ebpf::go::{Event, EventRecord};

use super::{
    map::Name,
    span::{Iteration, Span, Spans},
    symbols::{SiteId, StackId},
    table::{Few, Kept, Table},
};

/// `sync.Map`s that are kept apart.
const MAPS: usize = 256;
/// Goroutines that are in `Range` at once.
const RANGES: usize = 8;
/// Places of each.
const PLACES: usize = 12;

/// What was done with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncOps {
    /// `Load`.
    pub loads: u64,
    /// `Store`, `Swap`, `LoadOrStore`.
    pub stores: u64,
    /// `Delete`, `LoadAndDelete`.
    pub deletes: u64,
    /// `Range`.
    pub ranges: u64,
}

impl SyncOps {
    fn add(&mut self, kind: Event) {
        match kind {
            Event::SyncMapLoad => self.loads += 1,
            Event::SyncMapStore | Event::SyncMapLoadOrStore => self.stores += 1,
            Event::SyncMapDelete => self.deletes += 1,
            Event::SyncMapRange => self.ranges += 1,
            _ => {}
        }
    }

    /// All.
    pub fn all(self) -> u64 {
        self.loads + self.stores + self.deletes + self.ranges
    }
}

/// Somebody who changed it during a `Range`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changer {
    /// How often.
    pub changes: u64,
    /// The goroutine that did it last.
    pub goroutine: u64,
    /// Where.
    pub stack: StackId,
}

#[derive(Clone, Copy, Debug, Default)]
struct Range {
    goroutine: u64,
    start_ns: u64,
    stores: u64,
    deletes: u64,
    stack: StackId,
}

/// What is known of a `sync.Map`.
#[derive(Clone, Debug)]
pub struct SyncMap {
    /// Its name.
    pub name: Option<Name>,
    /// How often it was asked for.
    pub asked: u8,
    /// Where it was first used.
    pub first: SiteId,
    /// Its last operation.
    pub last_ns: u64,
    /// What was done.
    pub ops: SyncOps,
    /// Goroutines that used it: the first few, and operations of the others.
    pub goroutines: Few<u64, u64>,
    /// Places that it was used at.
    pub places: Few<SiteId, u64>,
    /// Ranges that are over.
    pub ranges_over: u64,
    /// During how many of them it was changed.
    pub ranges_disturbed: u64,
    /// Stores in their midst.
    pub stores_missed: u64,
    /// Deletions in their midst.
    pub deletes_missed: u64,
    /// The longest range in which it was changed, in nanoseconds.
    pub longest_ns: u64,
    /// Where that was.
    pub range_stack: StackId,
    /// Who changed it.
    pub changers: Few<SiteId, Changer>,
    ranges: Vec<Range>,
}

impl SyncMap {
    fn new(site: SiteId) -> Self {
        Self {
            name: None,
            asked: 0,
            first: site,
            last_ns: 0,
            ops: SyncOps::default(),
            goroutines: Few::new(16),
            places: Few::new(PLACES),
            ranges_over: 0,
            ranges_disturbed: 0,
            stores_missed: 0,
            deletes_missed: 0,
            longest_ns: 0,
            range_stack: 0,
            changers: Few::new(PLACES),
            ranges: Vec::with_capacity(RANGES),
        }
    }

    fn change(&mut self, event: &EventRecord, kind: Event, stack: StackId, site: SiteId) {
        if self.ranges.is_empty() {
            return;
        }
        for range in &mut self.ranges {
            if kind == Event::SyncMapDelete {
                range.deletes += 1;
            } else {
                range.stores += 1;
            }
        }
        let changer = self.changers.of(site);
        changer.changes += 1;
        changer.goroutine = event.goroutine_id;
        changer.stack = stack;
    }

    fn range_ends(&mut self, goroutine: u64, time_ns: u64) -> Option<Range> {
        let at = self
            .ranges
            .iter()
            .position(|range| range.goroutine == goroutine);
        let range = self.ranges.swap_remove(at?);
        self.ranges_over += 1;
        if range.stores + range.deletes == 0 {
            return Some(range);
        }
        self.ranges_disturbed += 1;
        self.stores_missed += range.stores;
        self.deletes_missed += range.deletes;
        let length = time_ns.saturating_sub(range.start_ns);
        if length >= self.longest_ns {
            self.longest_ns = length;
            self.range_stack = range.stack;
        }
        Some(range)
    }
}

impl Kept for SyncMap {
    fn worth(&self) -> (u64, u64) {
        (u64::from(self.ranges_disturbed > 0), self.last_ns)
    }
}

/// All of them.
#[derive(Debug)]
pub struct SyncMaps {
    table: Table<SyncMap>,
    /// What was done with those that were given up.
    pub given_up_ops: u64,
}

impl Default for SyncMaps {
    fn default() -> Self {
        Self {
            table: Table::new(MAPS),
            given_up_ops: 0,
        }
    }
}

impl SyncMaps {
    /// An operation, but for the end of `Range`.
    pub fn operate(&mut self, event: &EventRecord, kind: Event, stack: StackId, site: SiteId) {
        let given_up = &mut self.given_up_ops;
        let map = self.table.entry(
            event.subject,
            || SyncMap::new(site),
            |_, map| *given_up += map.ops.all(),
        );
        map.last_ns = event.time_ns;
        map.ops.add(kind);
        *map.goroutines.of(event.goroutine_id) += 1;
        *map.places.of(site) += 1;
        match kind {
            Event::SyncMapStore | Event::SyncMapLoadOrStore | Event::SyncMapDelete => {
                map.change(event, kind, stack, site);
            }
            Event::SyncMapRange => {
                let id = event.goroutine_id;
                map.ranges.retain(|range| range.goroutine != id);
                if map.ranges.len() < RANGES {
                    map.ranges.push(Range {
                        goroutine: id,
                        start_ns: event.time_ns,
                        stack,
                        ..Range::default()
                    });
                }
            }
            _ => {}
        }
    }

    /// A goroutine's `Range` is over, as far as can be seen.
    pub fn range_ends(&mut self, map: u64, goroutine: u64, time_ns: u64, spans: &mut Spans) {
        let entry = self.table.get_mut(map);
        if let Some(range) = entry.and_then(|entry| entry.range_ends(goroutine, time_ns)) {
            spans.push(Span::Iteration(Iteration {
                goroutine,
                map,
                sync: true,
                start_ns: range.start_ns,
                end_ns: time_ns.max(range.start_ns),
                steps: 0,
                changes: range.stores + range.deletes,
                stack: range.stack,
            }));
        }
    }

    /// Whether ranges go on is not known any more.
    pub fn gap(&mut self) {
        for (_, map) in self.table.iter_mut() {
            map.ranges.clear();
        }
    }

    /// That at an address.
    pub fn get(&self, address: u64) -> Option<&SyncMap> {
        self.table.get(address)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, address: u64) -> Option<&mut SyncMap> {
        self.table.get_mut(address)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &SyncMap)> {
        self.table.iter()
    }

    /// How many were given up.
    pub fn given_up(&self) -> u64 {
        self.table.given_up()
    }
}
