//! Who does what with one map.

use injector_ebpf::go::{Event, EventRecord};

use super::{
    goroutine::OriginId,
    span::{self, Growth, Span, Spans},
    symbols::{SiteId, Stack, StackId},
    table::{Few, Kept, Table},
};

/// Maps that are kept apart, 4 KiB each.
const MAPS: usize = 2048;
/// Sorts of maps, by type and first use, into which others are summed up.
const SORTS: usize = 512;
/// Goroutines that are kept apart for each map: those that used it last.
const TOUCHERS: usize = 16;
/// Origins of goroutines and places in the program, for each map.
const ORIGINS: usize = 8;
const PLACES: usize = 12;
/// Locks that may guard it.
const GUARDS: usize = 4;
/// Iterations at once.
const ITERATIONS: usize = 8;
/// Pairs of goroutines that were in it at once.
const PAIRS: usize = 4;
/// So close upon each other, two goroutines that nothing orders would run into
/// each other sooner or later, in nanoseconds: an operation and its probe take
/// a few hundred to a few thousand.
const CLOSE_NS: u64 = 5_000;

/// A name and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Such as `main.cache`.
    pub text: String,
    /// Read, not guessed.
    pub measured: bool,
}

/// What an operation does to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Reads an element.
    Read,
    /// Writes, deletes, clears.
    Write,
    /// Goes through the elements.
    Iterate,
}

impl Class {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Iterate => "iterates",
        }
    }
}

/// Operations by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ops {
    /// Elements read.
    pub reads: u64,
    /// Elements assigned.
    pub assigns: u64,
    /// Elements deleted.
    pub deletes: u64,
    /// All elements deleted.
    pub clears: u64,
    /// Iterations begun.
    pub iterations: u64,
    /// Steps of iterations.
    pub steps: u64,
    /// Growths begun.
    pub growths: u64,
}

impl Ops {
    fn add(&mut self, kind: Event) {
        match kind {
            Event::Access => self.reads += 1,
            Event::Assign => self.assigns += 1,
            Event::Delete => self.deletes += 1,
            Event::Clear => self.clears += 1,
            Event::IterateStart => self.iterations += 1,
            Event::IterateNext => self.steps += 1,
            Event::Grow => self.growths += 1,
            _ => {}
        }
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: Self) {
        let Self {
            reads,
            assigns,
            deletes,
            clears,
            iterations,
            steps,
            growths,
        } = other;
        self.reads += reads;
        self.assigns += assigns;
        self.deletes += deletes;
        self.clears += clears;
        self.iterations += iterations;
        self.steps += steps;
        self.growths += growths;
    }

    /// Writes of all sorts.
    pub fn writes(self) -> u64 {
        self.assigns + self.deletes + self.clears
    }

    /// Operations that the program asked for: growth is part of a write.
    pub fn all(self) -> u64 {
        self.reads + self.writes() + self.iterations + self.steps
    }
}

/// A goroutine that used the map.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toucher {
    /// Its number.
    pub goroutine: u64,
    /// What it did.
    pub ops: Ops,
    /// Its first and its last operation.
    pub span_ns: (u64, u64),
    /// Its last write, and its last operation that is none.
    pub stacks: (StackId, StackId),
}

/// Two goroutines that were in the map at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// How often.
    pub count: u64,
    /// The one that came, what it did, and where.
    pub comer: (u64, u8, StackId),
    /// The one that was there and what it did; and where it was last seen with
    /// this map.
    pub other: (u64, u8, StackId),
}

/// An iteration that has begun; its end is not seen.
#[derive(Clone, Copy, Debug, Default)]
struct Iteration {
    goroutine: u64,
    iterator: u64,
    stack: StackId,
    start_ns: u64,
    last_ns: u64,
    steps: u64,
    changes: u64,
    /// Since its last step, and not known to be before its end.
    own: Changes,
    foreign: Changes,
    writer: (u64, StackId),
    marked: (bool, bool),
}

impl Iteration {
    /// As far as it was seen.
    fn span(&self, map: u64) -> Span {
        Span::Iteration(span::Iteration {
            goroutine: self.goroutine,
            map,
            sync: false,
            start_ns: self.start_ns,
            end_ns: self.last_ns,
            steps: self.steps,
            changes: self.changes,
            stack: self.stack,
        })
    }
}

/// Changes of a map between two steps of one iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Elements assigned: some may have been there.
    pub assigns: u64,
    /// Deleted or cleared.
    pub deletes: u64,
    /// Growths.
    pub growths: u64,
}

impl Changes {
    fn all(self) -> u64 {
        self.assigns + self.deletes + self.growths
    }

    fn add(&mut self, kind: Event) {
        match kind {
            Event::Assign => self.assigns += 1,
            Event::Delete | Event::Clear => self.deletes += 1,
            Event::Grow => self.growths += 1,
            _ => {}
        }
    }

    fn merge(&mut self, other: Self) {
        self.assigns += other.assigns;
        self.deletes += other.deletes;
        self.growths += other.growths;
    }

    /// Whether there were none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Iterations with changes of the map in their midst.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disturbed {
    /// How many iterations.
    pub iterations: u64,
    /// What was changed.
    pub changes: Changes,
    /// Of the last one: who iterated, and who changed, and where.
    pub iterator: (u64, StackId),
    /// See above.
    pub writer: (u64, StackId),
    /// Steps of a collection or pause were in it.
    pub during_gc: u64,
}

/// How often a lock was got before the map was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Under {
    /// The map was used after the lock was got and before the goroutine was
    /// seen to release it.
    pub followed: u64,
    /// And then the goroutine was seen to release it.
    pub enclosed: u64,
    /// And nothing that is not seen can have been in between.
    pub certain: u64,
}

/// A lock in the struct that has the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameStruct {
    /// Its address.
    pub lock: u64,
    /// From it to the map's pointer, in bytes.
    pub distance: i64,
    /// Names of both fields.
    pub fields: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LastOp {
    goroutine: u64,
    tid: u32,
    time_ns: u64,
    write: bool,
}

/// What is known of a map.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "a map's type and a sync.Map are called so everywhere"
)]
pub struct Map {
    /// Address of its type, 0 when not known.
    pub map_type: u64,
    /// It is inside of a `sync.Map`.
    pub in_sync_map: bool,
    /// Its name.
    pub name: Option<Name>,
    /// Elements, and buckets or tables, when it was last looked at.
    pub size: Option<(u64, u64)>,
    /// How often its name was asked for.
    pub asked: u8,
    /// Where it was first seen.
    pub first: SiteId,
    /// Its first and its last operation.
    pub span_ns: (u64, u64),
    /// What was done with it.
    pub ops: Ops,
    /// Operations while garbage was collected.
    pub during_gc: u64,
    /// Goroutines that used it: those that are kept apart.
    pub touchers: Vec<Toucher>,
    /// And the others, of which one that comes back counts again.
    pub more_touchers: u64,
    /// What they did, by where they are from.
    pub origins: Few<OriginId, Ops>,
    /// Places that it was used at.
    pub places: Few<(SiteId, Class), u64>,
    /// Locks that it was used under.
    pub under: Few<u64, Under>,
    /// A lock beside it.
    pub same_struct: Option<SameStruct>,
    /// How often one goroutine followed another, one of the two with a write.
    pub turns: u64,
    /// Those on two threads with hardly any time in between.
    pub close: u64,
    /// Goroutines that were in it at once.
    pub overlaps: u64,
    /// The first of them.
    pub pairs: Vec<Pair>,
    /// Iterations in which the same goroutine changed the map.
    pub own: Disturbed,
    /// Iterations in which another did.
    pub foreign: Disturbed,
    iterations: Vec<Iteration>,
    last: LastOp,
}

impl Map {
    fn new(event: &EventRecord, stack: &Stack) -> Self {
        Self {
            map_type: event.map_type,
            in_sync_map: stack.in_sync_map,
            name: None,
            size: None,
            asked: 0,
            first: stack.site,
            span_ns: (event.time_ns, event.time_ns),
            ops: Ops::default(),
            during_gc: 0,
            touchers: Vec::with_capacity(TOUCHERS),
            more_touchers: 0,
            origins: Few::new(ORIGINS),
            places: Few::new(PLACES),
            under: Few::new(GUARDS),
            same_struct: None,
            turns: 0,
            close: 0,
            overlaps: 0,
            pairs: Vec::with_capacity(PAIRS),
            own: Disturbed::default(),
            foreign: Disturbed::default(),
            iterations: Vec::with_capacity(ITERATIONS),
            last: LastOp::default(),
        }
    }

    /// How many goroutines used it.
    pub fn goroutines(&self) -> u64 {
        self.touchers.len() as u64 + self.more_touchers
    }

    /// How it was used under a lock.
    pub fn under(&self, lock: u64) -> Under {
        let known = self.under.iter().find(|(known, _)| *known == lock);
        known.map_or(Under::default(), |(_, under)| *under)
    }

    fn touch(
        &mut self,
        event: &EventRecord,
        kind: Event,
        stack: StackId,
        origin: impl Fn(u64) -> OriginId,
    ) {
        let id = event.goroutine_id;
        let at = self.touchers.iter().position(|one| one.goroutine == id);
        let at = at.unwrap_or_else(|| {
            let fresh = Toucher {
                goroutine: id,
                span_ns: (event.time_ns, event.time_ns),
                ..Toucher::default()
            };
            if self.touchers.len() < TOUCHERS {
                self.touchers.push(fresh);
                return self.touchers.len() - 1;
            }
            let touchers = self.touchers.iter().enumerate();
            let (oldest, _) = touchers
                .min_by_key(|(_, one)| one.span_ns.1)
                .expect("there are some");
            let old = std::mem::replace(&mut self.touchers[oldest], fresh);
            self.origins.of(origin(old.goroutine)).merge(old.ops);
            self.more_touchers += 1;
            oldest
        });
        let one = &mut self.touchers[at];
        one.ops.add(kind);
        one.span_ns.1 = event.time_ns;
        if kind.is_write() {
            one.stacks.0 = stack;
        } else if kind != Event::Grow {
            one.stacks.1 = stack;
        }
    }

    fn overlap(&mut self, event: &EventRecord, kind: Event, stack: StackId) {
        self.overlaps += 1;
        let (a, b) = (event.goroutine_id, event.overlaps);
        let known = self.pairs.iter_mut().find(|pair| {
            let (comer, other) = (pair.comer.0, pair.other.0);
            (comer, other) == (a, b) || (comer, other) == (b, a)
        });
        if let Some(pair) = known {
            pair.count += 1;
        } else if self.pairs.len() < PAIRS {
            let write = Event::from_number(event.overlapped).is_some_and(Event::is_write);
            let toucher = self.touchers.iter().find(|one| one.goroutine == b);
            let stacks = toucher.map_or((0, 0), |one| one.stacks);
            self.pairs.push(Pair {
                count: 1,
                comer: (a, kind as u8, stack),
                other: (b, event.overlapped, if write { stacks.0 } else { stacks.1 }),
            });
        }
    }

    fn turn(&mut self, event: &EventRecord, write: bool) {
        let last = std::mem::replace(
            &mut self.last,
            LastOp {
                goroutine: event.goroutine_id,
                tid: event.tid,
                time_ns: event.time_ns,
                write,
            },
        );
        if last.goroutine == 0 || last.goroutine == event.goroutine_id || !(last.write || write) {
            return;
        }
        self.turns += 1;
        let near = event.time_ns.saturating_sub(last.time_ns) < CLOSE_NS;
        self.close += u64::from(near && last.tid != event.tid);
    }

    fn step(&mut self, event: &EventRecord, kind: Event, around: &Around<'_>, spans: &mut Spans) {
        let stack = around.id;
        let id = event.goroutine_id;
        let found = self
            .iterations
            .iter_mut()
            .find(|one| one.goroutine == id && one.iterator == event.iterator);
        let fresh = Iteration {
            goroutine: id,
            iterator: event.iterator,
            stack,
            start_ns: event.time_ns,
            last_ns: event.time_ns,
            ..Iteration::default()
        };
        let Some(one) = found else {
            // Without its beginning, it could be the next one of the same loop.
            if kind != Event::IterateStart {
                return;
            }
            if self.iterations.len() < ITERATIONS {
                self.iterations.push(fresh);
            } else if let Some(oldest) = self.iterations.iter_mut().min_by_key(|one| one.last_ns) {
                spans.push(std::mem::replace(oldest, fresh).span(event.subject));
            }
            return;
        };
        if kind == Event::IterateStart {
            spans.push(std::mem::replace(one, fresh).span(event.subject));
            return;
        }
        // It goes on, so all that happened since its last step was in its midst.
        for (changes, sum, marked, writer) in [
            (&mut one.own, &mut self.own, &mut one.marked.0, (id, stack)),
            (
                &mut one.foreign,
                &mut self.foreign,
                &mut one.marked.1,
                one.writer,
            ),
        ] {
            if changes.is_empty() {
                continue;
            }
            if !std::mem::replace(marked, true) {
                sum.iterations += 1;
                sum.during_gc += u64::from(around.in_gc);
            }
            one.changes += changes.all();
            sum.changes.merge(std::mem::take(changes));
            sum.iterator = (id, one.stack);
            if sum.writer.0 == 0 || writer.0 != id {
                sum.writer = writer;
            }
        }
        one.last_ns = event.time_ns;
        one.steps += 1;
    }

    /// Whether iterations go on is not known any more.
    fn end_iterations(&mut self, address: u64, spans: &mut Spans) {
        for one in self.iterations.drain(..) {
            spans.push(one.span(address));
        }
    }

    fn change(&mut self, event: &EventRecord, kind: Event, stack: StackId) {
        let id = event.goroutine_id;
        for one in &mut self.iterations {
            if one.goroutine == id {
                one.own.add(kind);
                self.own.writer = (id, stack);
            } else {
                one.foreign.add(kind);
                one.writer = (id, stack);
            }
        }
    }
}

impl Kept for Map {
    fn worth(&self) -> (u64, u64) {
        let risky =
            self.overlaps > 0 || !self.foreign.changes.is_empty() || !self.own.changes.is_empty();
        let rank = u64::from(risky) * 2 + u64::from(self.turns > 0 || self.under.len() > 0);
        (rank, self.span_ns.1)
    }
}

/// Maps that had to be given up, of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// How many.
    pub maps: u64,
    /// What was done with them.
    pub ops: Ops,
}

/// What is around an operation.
pub struct Around<'a> {
    /// Its stack.
    pub id: StackId,
    /// What is known of that.
    pub stack: &'a Stack,
    /// Garbage is being collected.
    pub in_gc: bool,
}

/// All maps.
#[derive(Debug)]
pub struct Maps {
    table: Table<Map>,
    /// Those that were given up, by type and where they were first used.
    pub sorts: Few<(u64, SiteId), Sort>,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            table: Table::new(MAPS),
            sorts: Few::new(SORTS),
        }
    }
}

impl Maps {
    /// An operation.
    pub fn operate(
        &mut self,
        event: &EventRecord,
        kind: Event,
        around: &Around<'_>,
        origin: impl Fn(u64) -> OriginId,
        spans: &mut Spans,
    ) -> &mut Map {
        let address = event.subject;
        let other = self.table.get(address).is_some_and(|map| {
            map.map_type != event.map_type && map.map_type != 0 && event.map_type != 0
        });
        if other && let Some(mut map) = self.table.remove(address) {
            map.end_iterations(address, spans);
            Self::retire(&mut self.sorts, &map);
        }
        let sorts = &mut self.sorts;
        let map = self.table.entry(
            address,
            || Map::new(event, around.stack),
            |address, mut map| {
                map.end_iterations(address, spans);
                Self::retire(sorts, &map);
            },
        );
        if map.map_type == 0 {
            map.map_type = event.map_type;
        }
        if map.first == 0 {
            map.first = around.stack.site;
        }
        map.in_sync_map |= around.stack.in_sync_map;
        map.span_ns.1 = event.time_ns;
        map.ops.add(kind);
        if kind == Event::GrowStep {
            return map;
        }
        map.during_gc += u64::from(around.in_gc);
        map.touch(event, kind, around.id, origin);
        if event.overlaps != 0 && event.overlaps != event.goroutine_id {
            map.overlap(event, kind, around.id);
        }
        let class = match kind {
            Event::Access => Class::Read,
            Event::IterateStart | Event::IterateNext => Class::Iterate,
            _ => Class::Write,
        };
        if kind == Event::Grow {
            spans.push(Span::Growth(Growth {
                goroutine: event.goroutine_id,
                map: address,
                time_ns: event.time_ns,
                stack: around.id,
            }));
        } else {
            *map.places.of((around.stack.site, class)) += 1;
            map.turn(event, class == Class::Write);
        }
        match class {
            Class::Iterate => map.step(event, kind, around, spans),
            Class::Write => map.change(event, kind, around.id),
            Class::Read => {}
        }
        map
    }

    fn retire(sorts: &mut Few<(u64, SiteId), Sort>, map: &Map) {
        let sort = sorts.of((map.map_type, map.first));
        sort.maps += 1;
        sort.ops.merge(map.ops);
    }

    /// Whether iterations go on is not known any more: events were not seen.
    pub fn gap(&mut self, spans: &mut Spans) {
        for (address, map) in self.table.iter_mut() {
            map.end_iterations(address, spans);
            map.last = LastOp::default();
        }
    }

    /// That at an address.
    pub fn get(&self, address: u64) -> Option<&Map> {
        self.table.get(address)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, address: u64) -> Option<&mut Map> {
        self.table.get_mut(address)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Map)> {
        self.table.iter()
    }

    /// How many were given up.
    pub fn given_up(&self) -> u64 {
        self.table.given_up()
    }
}
