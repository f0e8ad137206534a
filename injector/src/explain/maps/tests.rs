//! Streams with known answers.

mod spans;

use injector_ebpf::go::{Event, EventRecord, OP_FRAMES};
use proptest::prelude::*;

use super::*;
use crate::go::{Frame, Offsets};

const MAP: u64 = 0xc000_1000;
const MAP_TYPE: u64 = 0x50_0000;
const MUTEX: u64 = 0xc000_2000;
const RW: u64 = 0xc000_3000;
const SYNC: u64 = 0xc000_4000;
const MS: u64 = 1_000_000;

/// Functions by address: a stack is what its addresses say.
struct Names(&'static [&'static str]);

const FUNCTIONS: &[&str] = &[
    "?",
    "runtime.mapassign",
    "runtime.mapaccess1",
    "runtime.semacquire1",
    "runtime.semrelease1",
    "sync.(*Mutex).lockSlow",
    "sync.(*Mutex).unlockSlow",
    "sync.(*RWMutex).RLock",
    "sync.(*RWMutex).Lock",
    "sync.(*RWMutex).Unlock",
    "sync.(*RWMutex).rUnlockSlow",
    "sync.(*WaitGroup).Wait",
    "sync.(*Map).Range",
    "sync.(*Map).Store",
    "main.get",
    "main.put",
    "main.slow",
    "main.walk",
    "sync.runtime_Semacquire",
];

fn at(function: &str) -> u64 {
    FUNCTIONS.iter().position(|it| *it == function).unwrap() as u64
}

impl Symbols for Names {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        stack
            .iter()
            .filter_map(|address| self.0.get(*address as usize))
            .map(|function| Frame {
                function: (*function).to_owned(),
                file: "main.go".to_owned(),
                line: 7,
            })
            .collect()
    }
}

/// Feeds a trace event by event.
struct Story {
    trace: Trace,
    now: u64,
    site: u16,
}

impl Story {
    fn new() -> Self {
        Self {
            trace: Trace::new(0, MapKind::Swiss, LockLayout::of(&Offsets::of_table(27))),
            now: 0,
            site: 0,
        }
    }

    fn event(&self, id: u64, kind: Event, subject: u64, stack: &[&str]) -> EventRecord {
        let mut frames = [0; OP_FRAMES];
        for (frame, function) in frames.iter_mut().zip(stack) {
            *frame = at(function);
        }
        EventRecord {
            time_ns: self.now,
            goroutine_id: id,
            goroutine: 0xc100_0000 + id,
            subject,
            map_type: if kind.is_map_op() { MAP_TYPE } else { 0 },
            tid: 100 + id as u32,
            site: self.site,
            kind: kind as u8,
            depth: stack.len() as u8,
            frames,
            ..EventRecord::default()
        }
    }

    fn feed(&mut self, event: &EventRecord) {
        self.trace.feed(event, &Names(FUNCTIONS));
    }

    fn at(&mut self, ns: u64) -> &mut Self {
        self.now = ns;
        self
    }

    fn does(&mut self, id: u64, kind: Event, subject: u64, stack: &[&str]) -> &mut Self {
        let event = self.event(id, kind, subject, stack);
        self.feed(&event);
        self
    }

    fn writes(&mut self, id: u64) -> &mut Self {
        self.does(id, Event::Assign, MAP, &["runtime.mapassign", "main.put"])
    }

    fn reads(&mut self, id: u64) -> &mut Self {
        self.does(id, Event::Access, MAP, &["runtime.mapaccess1", "main.get"])
    }

    fn iterates(&mut self, id: u64, kind: Event) -> &mut Self {
        let event = EventRecord {
            iterator: 0xc200_0000 + id,
            ..self.event(id, kind, MAP, &["?", "main.walk"])
        };
        self.feed(&event);
        self
    }

    /// A mutex that is not free.
    fn waits_for_mutex(&mut self, id: u64) -> &mut Self {
        self.does(
            id,
            Event::LockSlow,
            MUTEX,
            &["sync.(*Mutex).lockSlow", "main.put"],
        )
        .does(
            id,
            Event::SemaphoreAcquire,
            MUTEX + 4,
            &["runtime.semacquire1", "sync.(*Mutex).lockSlow", "main.put"],
        )
    }

    fn gets_it(&mut self, id: u64) -> &mut Self {
        self.does(id, Event::SemaphoreAcquired, 0, &["runtime.semacquire1"])
    }

    fn unlocks_mutex(&mut self, id: u64, function: &str) -> &mut Self {
        self.does(
            id,
            Event::UnlockSlow,
            MUTEX,
            &["sync.(*Mutex).unlockSlow", function],
        )
        .does(
            id,
            Event::SemaphoreRelease,
            MUTEX + 4,
            &["runtime.semrelease1", "sync.(*Mutex).unlockSlow", function],
        )
    }

    fn end(&mut self) -> &mut Self {
        self.trace.advance(self.now);
        self
    }

    fn findings(&mut self, claim: Claim) -> Vec<Finding> {
        let mut findings = self.trace.findings();
        findings.retain(|it| it.claim == claim);
        findings
    }
}

fn measured(finding: &Finding, name: &str) -> u64 {
    let figure = finding.measured.iter().find(|it| it.name == name);
    figure
        .unwrap_or_else(|| panic!("{name} in {finding:?}"))
        .value
}

#[test]
fn a_wait_and_its_holder() {
    let mut story = Story::new();
    story
        .at(10 * MS)
        .waits_for_mutex(2)
        .at(40 * MS)
        .unlocks_mutex(1, "main.slow")
        .at(41 * MS)
        .gets_it(2)
        .at(42 * MS)
        .writes(2)
        .end();
    let [lock] = &story.trace.locks(9)[..] else {
        panic!("one lock");
    };
    assert_eq!(lock.about.address, MUTEX);
    assert_eq!(lock.about.what, "Mutex");
    assert_eq!((lock.waits.count, lock.waits.total_ns), (1, 31 * MS));
    assert_eq!(lock.waits.max_ns, 31 * MS);
    let waiter = &lock.waiters[0];
    assert_eq!(waiter.goroutine, Some(2));
    assert_eq!(waiter.place.as_ref().unwrap().function, "main.put");
    let holder = &lock.holders[0];
    assert_eq!((holder.goroutine, holder.count), (Some(1), 1));
    assert_eq!(holder.total_ns, 30 * MS);
    assert_eq!(holder.place.as_ref().unwrap().function, "main.slow");
    let [found] = &story.findings(Claim::Contention)[..] else {
        panic!("one finding");
    };
    assert_eq!(found.confidence, Confidence::High);
    assert_eq!(measured(found, "total_ns"), 31 * MS);
    assert!(found.remedy.contains("nothing slow"), "{}", found.remedy);
}

/// A mutex that another is quicker to get is waited for again: one wait.
#[test]
fn a_wait_goes_on_when_another_was_quicker() {
    let mut story = Story::new();
    story
        .at(MS)
        .waits_for_mutex(2)
        .at(5 * MS)
        .unlocks_mutex(1, "main.slow")
        .at(6 * MS)
        .gets_it(2)
        .does(
            2,
            Event::SemaphoreAcquire,
            MUTEX + 4,
            &["runtime.semacquire1", "sync.(*Mutex).lockSlow", "main.put"],
        )
        .at(9 * MS)
        .unlocks_mutex(3, "main.get")
        .gets_it(2)
        .at(10 * MS)
        .writes(2);
    let lock = &story.trace.locks(1)[0];
    assert_eq!((lock.waits.count, lock.waits.total_ns), (1, 8 * MS));
    assert_eq!(lock.holders.len(), 2);
}

#[test]
fn readers_wait_for_the_writer_and_the_writer_for_readers() {
    let mut story = Story::new();
    let read = &["runtime.semacquire1", "sync.(*RWMutex).RLock", "main.get"];
    story
        .at(MS)
        .does(2, Event::SemaphoreAcquire, RW + 12, read)
        .at(2 * MS)
        .does(3, Event::SemaphoreAcquire, RW + 12, read)
        .at(11 * MS);
    for semaphore in [RW + 12, RW + 12] {
        story.does(
            1,
            Event::SemaphoreRelease,
            semaphore,
            &["runtime.semrelease1", "sync.(*RWMutex).Unlock", "main.put"],
        );
    }
    story.gets_it(2).gets_it(3).at(12 * MS).reads(2).reads(3);
    story.at(20 * MS).does(
        1,
        Event::SemaphoreAcquire,
        RW + 8,
        &["runtime.semacquire1", "sync.(*RWMutex).Lock", "main.put"],
    );
    for (ms, reader) in [(24, 2), (26, 3)] {
        story.at(ms * MS).does(
            reader,
            Event::ReadUnlockSlow,
            RW,
            &["sync.(*RWMutex).rUnlockSlow", "main.get"],
        );
    }
    story.at(27 * MS).gets_it(1).at(28 * MS).writes(1);
    let all = story.trace.locks(9);
    assert_eq!(all.len(), 1, "one lock with three semaphores: {all:?}");
    let lock = &all[0];
    assert_eq!((lock.about.address, lock.about.what), (RW, "RWMutex"));
    let [mutex, writer, reader] = lock.by_side;
    assert_eq!(mutex.count, 0);
    assert_eq!((writer.count, writer.total_ns), (1, 7 * MS));
    assert_eq!((reader.count, reader.total_ns), (2, 19 * MS));
    let held = |function: &str| {
        let holder = lock
            .holders
            .iter()
            .find(|it| it.place.as_ref().unwrap().function == function);
        let holder = holder.expect(function);
        (holder.count, holder.total_ns)
    };
    // One hold that two readers waited for; two of readers, side by side.
    assert_eq!(held("main.put"), (1, 10 * MS));
    assert_eq!(held("main.get"), (2, 10 * MS));
}

#[test]
fn what_is_no_lock_is_called_none() {
    let mut story = Story::new();
    story
        .at(MS)
        .does(
            2,
            Event::SemaphoreAcquire,
            MUTEX + 4,
            &[
                "runtime.semacquire1",
                "sync.runtime_Semacquire",
                "sync.(*WaitGroup).Wait",
                "main.get",
            ],
        )
        .at(9 * MS)
        .gets_it(2)
        .end();
    assert!(story.trace.locks(9).is_empty());
    assert_eq!(story.trace.no_locks().wait_groups.total_ns, 8 * MS);
}

#[test]
fn a_wait_that_lasts_is_told_as_such() {
    let mut story = Story::new();
    story.at(MS).waits_for_mutex(2).at(101 * MS).end();
    let lock = &story.trace.locks(9)[0];
    assert_eq!(lock.open, Some((1, 100 * MS)));
    assert_eq!(lock.waits.count, 0);
    let found = &story.findings(Claim::Contention)[0];
    assert_eq!(measured(found, "still_waiting"), 1);
}

/// A semaphore that was free: nothing was waited for, and nothing is measured.
#[test]
fn no_time_is_made_up_for_what_was_not_waited_for() {
    let mut story = Story::new();
    story.at(MS).waits_for_mutex(2).at(90 * MS).writes(2).end();
    assert!(story.trace.locks(9).is_empty());
    assert!(story.trace.findings().is_empty());
}

#[test]
fn a_pause_is_not_the_locks_doing() {
    let mut story = Story::new();
    story.at(MS).waits_for_mutex(2);
    story
        .at(2 * MS)
        .does(0, Event::GcStart, 0, &[])
        .does(0, Event::WorldStop, 0, &[])
        .at(6 * MS)
        .does(0, Event::WorldStart, 0, &[])
        .at(7 * MS)
        .does(0, Event::GcEnd, 0, &[]);
    story
        .at(9 * MS)
        .unlocks_mutex(1, "main.slow")
        .gets_it(2)
        .writes(2);
    let lock = &story.trace.locks(9)[0];
    assert_eq!(lock.waits.total_ns, 8 * MS);
    assert_eq!((lock.paused_ns, lock.during_gc), (4 * MS, 1));
    let collections = story.trace.collections();
    assert_eq!(collections.collections.total_ns, 5 * MS);
    assert_eq!(collections.pauses.max_ns, 4 * MS);
}

#[test]
fn an_overlap_is_proven() {
    let mut story = Story::new();
    story.at(MS).writes(2);
    let read = EventRecord {
        overlaps: 2,
        overlapped: Event::Assign as u8,
        ..story.event(3, Event::Access, MAP, &["runtime.mapaccess1", "main.get"])
    };
    story.feed(&read);
    let [found] = &story.findings(Claim::Overlap)[..] else {
        panic!("one finding");
    };
    assert_eq!(found.confidence, Confidence::High);
    let roles: Vec<_> = found
        .parties
        .iter()
        .map(|it| {
            (
                it.role,
                it.goroutine,
                it.place.as_ref().unwrap().function.as_str(),
            )
        })
        .collect();
    assert_eq!(
        roles,
        [
            ("reads", Some(3), "main.get"),
            ("writes", Some(2), "main.put")
        ]
    );
}

/// Two goroutines that use a map in turns under a mutex, seldom contended.
fn locked(contended: bool) -> Story {
    let mut story = Story::new();
    for turn in 0..200_u64 {
        story.at(turn * MS);
        let id = 1 + turn % 2;
        if contended && turn % 10 == 5 {
            story.waits_for_mutex(id);
            story.now += 1_000;
            story.unlocks_mutex(3 - id, "main.put").gets_it(id);
            story.now += 1_000;
            story.writes(id);
            story.now += 1_000;
            story.unlocks_mutex(id, "main.put");
        } else {
            story.writes(id);
        }
    }
    story.end();
    story
}

#[test]
fn a_contended_lock_is_taken_for_the_maps_guard() {
    let mut story = locked(true);
    assert!(story.findings(Claim::Unordered).is_empty());
    let map = &story.trace.maps(1)[0];
    let guard = map.guard.as_ref().expect("a guard");
    assert_eq!((guard.lock, guard.kind), (MUTEX, Some("Mutex")));
    assert!(guard.confidence < Confidence::High, "only inferred");
    let fact = Fact::Guard {
        lock: MUTEX,
        map: MAP,
        distance: 8,
        fields: Some(("mu".to_owned(), "items".to_owned())),
    };
    story.trace.learn(fact, &Names(FUNCTIONS));
    let guard = story.trace.maps(1).remove(0).guard.expect("a guard");
    assert_eq!(guard.confidence, Confidence::High);
    assert!(guard.why.contains("mu and items"), "{}", guard.why);
}

#[test]
fn an_uncontended_lock_is_never_a_risk_with_high_confidence() {
    let mut story = locked(false);
    let [found] = &story.findings(Claim::Unordered)[..] else {
        panic!("one finding");
    };
    assert_eq!(found.confidence, Confidence::Low);
    assert!(story.trace.news().is_empty(), "what is vague is no news");
}

#[test]
fn close_calls_without_any_order_are_more_likely_a_risk() {
    let mut story = Story::new();
    for turn in 0..100_u64 {
        story.at(turn * 2_000).writes(1 + turn % 2);
    }
    let found = &story.findings(Claim::Unordered)[0];
    assert_eq!(found.confidence, Confidence::Medium);
    assert_eq!(measured(found, "close_calls"), 99);
    assert_eq!(story.trace.news().len(), 1);
    assert!(story.trace.news().is_empty(), "told once");
}

#[test]
fn a_map_that_is_filled_and_then_read_is_no_risk() {
    let mut story = Story::new();
    for turn in 0..100_u64 {
        story.at(turn * 1_000).writes(1);
    }
    for turn in 100..300_u64 {
        story.at(turn * 1_000).reads(2 + turn % 4);
    }
    assert!(story.trace.findings().is_empty());
}

#[test]
fn what_another_writes_between_two_steps_is_in_the_midst_of_an_iteration() {
    let mut story = Story::new();
    story
        .at(MS)
        .iterates(1, Event::IterateStart)
        .iterates(1, Event::IterateNext)
        .at(2 * MS)
        .writes(2);
    assert!(
        story.findings(Claim::WriteDuringIteration).is_empty(),
        "it may be over"
    );
    story.at(3 * MS).iterates(1, Event::IterateNext);
    let found = &story.findings(Claim::WriteDuringIteration)[0];
    assert_eq!(found.confidence, Confidence::Medium);
    assert_eq!(
        (measured(found, "iterations"), measured(found, "assigns")),
        (1, 1)
    );
    assert_eq!(found.parties[0].goroutine, Some(1));
    assert_eq!(found.parties[1].goroutine, Some(2));
}

#[test]
fn a_new_loop_is_not_the_old_one() {
    let mut story = Story::new();
    for turn in 0..10_u64 {
        story
            .at(turn * MS)
            .iterates(1, Event::IterateStart)
            .iterates(1, Event::IterateNext)
            .writes(2)
            .writes(1);
    }
    assert!(story.findings(Claim::WriteDuringIteration).is_empty());
    assert!(story.findings(Claim::ChangeDuringOwnIteration).is_empty());
    // Nor is one whose beginning fell between two windows.
    story.iterates(1, Event::IterateNext);
    story.trace.window(0, 10 * MS, Kinds::default());
    story.trace.gap();
    story.writes(2).iterates(1, Event::IterateNext).writes(2);
    story.iterates(1, Event::IterateNext);
    assert_eq!(
        story.findings(Claim::WriteDuringIteration).len(),
        1,
        "the step before the window's end proves the first two writes"
    );
    let found = &story.findings(Claim::WriteDuringIteration)[0];
    assert_eq!(measured(found, "assigns"), 1);
}

#[test]
fn growth_in_an_own_iteration_is_certain_and_deletion_is_fine() {
    let mut story = Story::new();
    story.at(MS).iterates(1, Event::IterateStart);
    for _ in 0..3 {
        story
            .iterates(1, Event::IterateNext)
            .does(1, Event::Delete, MAP, &["?", "main.walk"]);
    }
    story.iterates(1, Event::IterateNext);
    assert!(story.trace.findings().is_empty());
    story
        .does(1, Event::Assign, MAP, &["?", "main.walk"])
        .iterates(1, Event::IterateNext);
    let found = story.findings(Claim::ChangeDuringOwnIteration);
    assert_eq!(found[0].confidence, Confidence::Low);
    story
        .does(1, Event::Assign, MAP, &["?", "main.walk"])
        .does(1, Event::Grow, MAP, &["?", "main.walk"])
        .iterates(1, Event::IterateNext);
    story.trace.learn(
        Fact::MapSize {
            address: MAP,
            elements: 300,
            buckets_or_tables: 2,
        },
        &Names(FUNCTIONS),
    );
    let found = &story.findings(Claim::ChangeDuringOwnIteration)[0];
    assert_eq!(found.confidence, Confidence::High);
    assert_eq!(
        (measured(found, "growths"), measured(found, "tables")),
        (1, 2)
    );
}

fn range(story: &mut Story, ends: bool) -> Finding {
    let ranges = &["sync.(*Map).Range", "main.walk"];
    let stores = &["sync.(*Map).Store", "main.put"];
    if ends {
        // A first one, which nothing disturbs.
        story
            .does(1, Event::SyncMapRange, SYNC, ranges)
            .does(1, Event::SyncMapRangeEnd, 0, ranges);
    }
    story
        .at(MS)
        .does(1, Event::SyncMapRange, SYNC, ranges)
        .does(2, Event::SyncMapStore, SYNC, stores)
        .at(2 * MS)
        .does(1, Event::SyncMapLoad, SYNC, &["?", "main.walk"])
        .at(3 * MS)
        .does(2, Event::SyncMapStore, SYNC, stores)
        .does(2, Event::SyncMapDelete, SYNC, stores);
    if ends {
        story.does(1, Event::SyncMapRangeEnd, 0, ranges);
    }
    story.does(2, Event::SyncMapStore, SYNC, stores);
    story.findings(Claim::RangeMissed).remove(0)
}

#[test]
fn stores_during_a_range_are_counted() {
    let found = range(&mut Story::new(), true);
    assert_eq!(
        (
            measured(&found, "ranges"),
            measured(&found, "ranges_disturbed")
        ),
        (2, 1)
    );
    assert_eq!(
        (measured(&found, "stores"), measured(&found, "deletes")),
        (2, 1)
    );
    assert_eq!(measured(&found, "longest_range_ns"), 2 * MS);
    let changes = found
        .parties
        .iter()
        .find(|it| it.role == "changes")
        .unwrap();
    assert_eq!(changes.place.as_ref().unwrap().function, "main.put");
    assert_eq!(found.why.len(), 1);
}

#[test]
fn without_its_end_a_range_is_short_and_that_is_said() {
    let found = range(&mut Story::new(), false);
    assert_eq!(measured(&found, "stores"), 1);
    assert!(
        found.why[1].contains("there can be more"),
        "{:?}",
        found.why
    );
}

#[test]
fn shards_are_told_from_one_map_with_its_lock() {
    let mut story = Story::new();
    for shard in 0..8_u64 {
        let map = MAP + shard * 64;
        story.does(1, Event::Assign, map, &["runtime.mapassign", "main.put"]);
        story.trace.learn(
            Fact::Guard {
                lock: MUTEX + shard * 64,
                map,
                distance: 8,
                fields: None,
            },
            &Names(FUNCTIONS),
        );
    }
    let lone = MAP + 0x8000;
    story.does(1, Event::Assign, lone, &["runtime.mapassign", "main.get"]);
    for _ in 0..10 {
        story
            .does(
                1,
                Event::WriteLock,
                RW,
                &["sync.(*RWMutex).Lock", "main.get"],
            )
            .does(1, Event::Assign, lone, &["runtime.mapassign", "main.get"])
            .does(
                1,
                Event::WriteUnlock,
                RW,
                &["sync.(*RWMutex).Unlock", "main.get"],
            );
    }
    let all = story.trace.arrangements();
    let of = |name: &str| {
        let found = all.iter().find(|it| it.name == name);
        let found = found.unwrap_or_else(|| panic!("{name} in {all:?}"));
        (found.maps, found.locks)
    };
    assert_eq!(of("shards of lock + map"), (8, 8));
    assert_eq!(of("RWMutex + map"), (1, 1));
    let lone = story
        .trace
        .maps(99)
        .into_iter()
        .find(|it| it.about.address == lone);
    let guard = lone.unwrap().guard.unwrap();
    assert_eq!((guard.confidence, guard.lock), (Confidence::High, RW));
}

#[test]
fn another_type_at_the_address_is_another_map() {
    let mut story = Story::new();
    story.writes(1).writes(1);
    let event = EventRecord {
        map_type: MAP_TYPE + 64,
        ..story.event(2, Event::Access, MAP, &["runtime.mapaccess1", "main.get"])
    };
    story.feed(&event);
    let map = &story.trace.maps(9)[0];
    assert_eq!((map.ops.assigns, map.ops.reads, map.goroutines), (0, 1, 1));
}

#[test]
fn what_is_wanted_is_asked_for_three_times_and_used() {
    let mut story = Story::new();
    story.writes(1).reads(2);
    let map = Unknown::Map {
        address: MAP,
        map_type: MAP_TYPE,
    };
    for _ in 0..3 {
        let wanted = story.trace.unknown(32);
        assert!(wanted.contains(&map), "{wanted:?}");
        assert!(wanted.contains(&Unknown::MapType(MAP_TYPE)));
        assert!(wanted.contains(&Unknown::Goroutine {
            id: 1,
            address: 0xc100_0001
        }));
        assert!(story.trace.unknown(32).is_empty(), "not twice at once");
        story.now += 500 * MS;
        story.end();
    }
    assert_eq!(story.trace.unknown(32), [Unknown::MapSize(MAP)]);
    let names = &Names(FUNCTIONS);
    let facts = [
        Fact::MapType {
            address: MAP_TYPE,
            name: "map[string]int".to_owned(),
        },
        Fact::Name {
            address: MAP,
            name: "main.cache".to_owned(),
            measured: true,
        },
        Fact::Goroutine {
            id: 1,
            parent: 0,
            creator: 0,
            start: at("main.put"),
        },
    ];
    for fact in facts {
        story.trace.learn(fact, names);
    }
    let map = &story.trace.maps(1)[0];
    assert_eq!(map.about.name.as_deref(), Some("main.cache"));
    assert_eq!(map.about.type_name.as_deref(), Some("map[string]int"));
    assert_eq!(map.started_as, [("main.put".to_owned(), 1)]);
    assert!(map.name_measured);
}

#[test]
fn shares_of_time_are_of_what_was_asked() {
    let mut story = Story::new();
    assert_eq!(story.trace.share(Event::Access), None, "not told yet");
    let kinds: Kinds = [Event::Access].into_iter().collect();
    story.trace.window(0, 10 * MS, kinds);
    story.trace.window(5 * MS, 20 * MS, kinds);
    let writes: Kinds = [Event::Assign].into_iter().collect();
    story.trace.window(70 * MS, 80 * MS, writes);
    let share = |kind| story.trace.share(kind).unwrap();
    assert!((share(Event::Access) - 0.25).abs() < 1e-9);
    assert!((share(Event::Assign) - 0.125).abs() < 1e-9);
    assert!(share(Event::Delete) < 1e-9);
}

#[test]
fn more_than_there_is_room_for_is_counted() {
    let mut story = Story::new();
    for number in 0..10_000_u64 {
        story.now += 1_000;
        story.does(
            1,
            Event::Assign,
            MAP + number * 64,
            &["runtime.mapassign", "main.put"],
        );
    }
    for id in 0..40_000_u64 {
        story.now += 1_000;
        story.reads(id + 1);
    }
    let limits = story.trace.limits();
    assert!(limits.maps > 0 && limits.goroutines > 0, "{limits:?}");
    assert!(story.trace.maps(usize::MAX).len() <= 2048);
    let summed = story.trace.summed_up();
    let kept = story.trace.maps(usize::MAX).len() as u64;
    // One came back after it had been given up.
    assert_eq!(summed.maps + kept, 10_001);
}

fn any_event() -> impl Strategy<Value = EventRecord> {
    let bytes = prop::collection::vec(any::<u8>(), size_of::<EventRecord>());
    (bytes, any::<bool>()).prop_map(|(bytes, likely)| {
        // SAFETY: the vector has the size of the record, every bit pattern of
        // which is a value, and the read does not need alignment.
        let mut event = unsafe { bytes.as_ptr().cast::<EventRecord>().read_unaligned() };
        if likely {
            event.kind %= Event::ALL.len() as u8;
            event.goroutine_id %= 8;
            event.subject %= 64;
            event.iterator %= 4;
            event.overlaps %= 4;
            event.time_ns %= 1 << 32;
            event.depth %= 5;
            for frame in &mut event.frames {
                *frame %= FUNCTIONS.len() as u64;
            }
        }
        event
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing panics, whatever comes, and no more is said than was seen.
    #[test]
    fn any_events_are_taken(events in prop::collection::vec(any_event(), 0..400), cut in any::<u64>()) {
        let mut story = Story::new();
        for event in &events {
            story.feed(event);
        }
        story.trace.window(cut / 2, cut, Kinds::default().with(Event::Access));
        story.trace.advance(cut);
        for finding in story.trace.findings() {
            prop_assert!(!finding.why.is_empty() && !finding.remedy.is_empty());
        }
        prop_assert_eq!(story.trace.events(), events.len() as u64);
        let share = story.trace.share(Event::Access);
        prop_assert!(share.is_none_or(|share| (0.0..=1.0).contains(&share)));
        let _ = (story.trace.maps(9), story.trace.locks(9), story.trace.sync_maps(9));
        let _ = (story.trace.arrangements(), story.trace.unknown(9), story.trace.news());
    }

    /// Events that come a little late make times shorter, never longer than
    /// the whole.
    #[test]
    fn waits_are_never_longer_than_the_run(
        mut times in prop::collection::vec(0..1_000 * MS, 4..40),
        shuffle in any::<bool>(),
    ) {
        if !shuffle {
            times.sort_unstable();
        }
        let mut story = Story::new();
        for (index, time) in times.iter().enumerate() {
            story.at(*time);
            match index % 4 {
                0 => story.waits_for_mutex(2),
                1 => story.unlocks_mutex(1, "main.slow"),
                2 => story.gets_it(2),
                _ => story.writes(2),
            };
        }
        story.end();
        for lock in story.trace.locks(9) {
            prop_assert!(lock.waits.max_ns <= 1_000 * MS);
            prop_assert!(lock.waits.total_ns <= 1_000 * MS * lock.waits.count);
        }
    }
}

/// Hides the work of one function.
struct Hiding;

impl Symbols for Hiding {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        Names(FUNCTIONS).frames(stack)
    }

    fn shows(&self, function: &str) -> bool {
        function != "main.walk"
    }
}

#[test]
fn what_only_hidden_functions_use_is_not_shown() {
    let mut story = Story::new();
    let mut feed = |id, kind, subject, stack: &[&str]| {
        let event = story
            .at(u64::from(kind as u8) * MS)
            .event(id, kind, subject, stack);
        story.trace.feed(&event, &Hiding);
        (story.trace.maps(9), story.trace.sync_maps(9).len())
    };
    let (maps, _) = feed(1, Event::Assign, MAP, &["runtime.mapassign", "main.walk"]);
    assert!(maps.is_empty());
    // Then all that was done is told.
    let (maps, _) = feed(2, Event::Access, MAP, &["runtime.mapaccess1", "main.get"]);
    assert_eq!((maps[0].ops.assigns, maps[0].ops.reads), (1, 1));
    let (_, sync_maps) = feed(
        1,
        Event::SyncMapStore,
        SYNC,
        &["sync.(*Map).Store", "main.walk"],
    );
    assert_eq!(sync_maps, 0);
    let (_, sync_maps) = feed(
        1,
        Event::SyncMapStore,
        SYNC,
        &["sync.(*Map).Store", "main.put"],
    );
    assert_eq!(sync_maps, 1);
}
