//! What is probed: one table of functions, for all versions. Which of them a
//! program has is looked up in it; a version that moves a function is one more
//! row.
//!
//! All are Go functions with Go's register ABI (`ABIInternal`, amd64 since Go 1.17,
//! arm64 since 1.18; src/cmd/compile/abi-internal.md): arguments are
//! counted from 0 over registers, and a string or slice takes several.
//! Signatures are from the files of Go's source that are named beside each
//! group. There are no return probes: they break Go's stack unwinding.

use injector_ebpf::go::Event;

use super::{image::Machine, maps::MapKind};

/// What kind of event it is.
pub fn group(event: Event) -> &'static str {
    match event {
        Event::Fatal | Event::Throw | Event::Panic => "fatal",
        Event::Grow | Event::GrowStep => "growth",
        Event::Assign | Event::Delete | Event::Clear => "write",
        Event::Access => "read",
        Event::IterateStart | Event::IterateNext => "iterate",
        Event::LockSlow
        | Event::UnlockSlow
        | Event::ReadUnlockSlow
        | Event::WriteLock
        | Event::WriteUnlock => "lock",
        Event::SemaphoreAcquire | Event::SemaphoreAcquired | Event::SemaphoreRelease => "semaphore",
        Event::GcStart | Event::GcEnd | Event::WorldStop | Event::WorldStart => "gc",
        Event::WatchSet | Event::WatchClear => "watch",
        Event::GoroutineStart | Event::GoroutineEnd => "goroutine",
        Event::NoCpu => "cpu",
        Event::SyncMapLoad
        | Event::SyncMapStore
        | Event::SyncMapLoadOrStore
        | Event::SyncMapDelete
        | Event::SyncMapRange
        | Event::SyncMapRangeEnd => "sync.Map",
    }
}

/// What a function of the runtime does with a map, whether or not it is probed:
/// the others only call these, or are these for one kind of key.
pub fn operation(function: &str) -> Option<Event> {
    let writes_or_reads = |event: &Event| event.is_map_op() && group(*event) != "growth";
    let probed = TABLE.iter().find(|probe| probe.function == function);
    if let Some(probe) = probed {
        return Some(probe.event).filter(writes_or_reads);
    }
    [
        ("runtime.mapaccess", Event::Access),
        ("runtime.mapassign", Event::Assign),
        ("runtime.mapdelete", Event::Delete),
    ]
    .into_iter()
    .find(|(start, _)| function.starts_with(start))
    .map(|(_, event)| event)
}

/// How often a probe may be hit, and so when it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Rare, or only where goroutines already wait: always attached.
    Always,
    /// As often as the program likes: attached as far as the budget allows.
    Governed,
}

impl Level {
    /// As a number.
    pub fn number(self) -> u8 {
        match self {
            Self::Always => 0,
            Self::Governed => 1,
        }
    }
}

/// What a probe is about, among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Nothing, or everything.
    None,
    /// This argument is the address of the map, lock or semaphore.
    Argument(u8),
    /// This argument is the address of an iterator, which has that of its map.
    Iterator(u8),
    /// This argument and the next are a string.
    Text(u8),
}

/// Where in a function a probe belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At its start, with all arguments in their registers.
    Entry,
    /// Where it calls this function, with the arguments of that call.
    CallTo(&'static str),
    /// At each instruction by which it returns, with the return address on top
    /// of the stack or in the link register. Not passed when a panic unwinds it.
    Returns,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// What it tells.
    pub event: Event,
    /// When it is attached.
    pub level: Level,
    /// The function's full name.
    pub function: &'static str,
    /// Where in it.
    pub place: Place,
    /// What it is about.
    pub subject: Subject,
    /// The kind of maps that it is for, if it is for one of them.
    pub maps: Option<MapKind>,
    /// A function that tells the same, if this one calls it: then this one is
    /// left out, so that nothing counts twice.
    pub unless_calls: Option<&'static str>,
}

impl Probe {
    const fn new(event: Event, level: Level, function: &'static str, subject: Subject) -> Self {
        Self {
            event,
            level,
            function,
            place: Place::Entry,
            subject,
            maps: None,
            unless_calls: None,
        }
    }

    const fn only(mut self, maps: MapKind) -> Self {
        self.maps = Some(maps);
        self
    }

    const fn unless_calls(mut self, function: &'static str) -> Self {
        self.unless_calls = Some(function);
        self
    }

    const fn at_call_to(mut self, function: &'static str) -> Self {
        self.place = Place::CallTo(function);
        self
    }

    const fn at_returns(mut self) -> Self {
        self.place = Place::Returns;
        self
    }
}

/// A name that a probe of the table needs to have looked up.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|probe| {
        let callee = match probe.place {
            Place::Entry | Place::Returns => None,
            Place::CallTo(function) => Some(function),
        };
        [Some(probe.function), callee, probe.unless_calls]
            .into_iter()
            .flatten()
    })
}

impl Machine {
    /// The register of an integer argument, as the kernel names it in
    /// `struct pt_regs`.
    pub fn argument(self, index: u8) -> Option<&'static str> {
        const AMD64: &[&str] = &["ax", "bx", "cx", "di", "si", "r8", "r9", "r10", "r11"];
        const ARM64: &[&str] = &[
            "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
            "x14", "x15",
        ];
        let registers = match self {
            Self::Amd64 => AMD64,
            Self::Arm64 => ARM64,
        };
        registers.get(usize::from(index)).copied()
    }

    /// The register that holds the goroutine (`g`).
    pub fn goroutine(self) -> &'static str {
        match self {
            Self::Amd64 => "r14",
            Self::Arm64 => "x28",
        }
    }
}

use Event as E;
use Level::{Always, Governed};
use MapKind::{Classic, Swiss};
use Subject::{Argument, Iterator as Iter, None as Nothing, Text};

/// `sync.Map` since Go 1.24: a method of its only instance.
macro_rules! trie {
    ($method:literal) => {
        concat!(
            "internal/sync.(*HashTrieMap[go.shape.interface {},go.shape.interface {}]).",
            $method
        )
    };
}

/// The table.
#[rustfmt::skip]
pub const TABLE: &[Probe] = &[
    // runtime/panic.go: fatal(s string), throw(s string), gopanic(e any).
    // maps.fatal of Swiss maps and sync.fatal end in runtime.fatal.
    Probe::new(E::Fatal, Always, "runtime.fatal", Text(0)),
    Probe::new(E::Throw, Always, "runtime.throw", Text(0)),
    Probe::new(E::Panic, Governed, "runtime.gopanic", Nothing),

    // runtime/map.go: hashGrow(t, h), growWork(t, h, bucket).
    Probe::new(E::Grow, Always, "runtime.hashGrow", Argument(1)).only(Classic),
    Probe::new(E::GrowStep, Governed, "runtime.growWork", Argument(1)).only(Classic),
    Probe::new(E::GrowStep, Governed, "runtime.growWork_fast32", Argument(1)).only(Classic),
    Probe::new(E::GrowStep, Governed, "runtime.growWork_fast64", Argument(1)).only(Classic),
    Probe::new(E::GrowStep, Governed, "runtime.growWork_faststr", Argument(1)).only(Classic),
    // internal/runtime/maps: (m) growToTable(typ), (t) grow(typ, m, capacity),
    // (t) split(typ, m).
    Probe::new(E::Grow, Always, "internal/runtime/maps.(*Map).growToTable", Argument(0)).only(Swiss),
    Probe::new(E::Grow, Always, "internal/runtime/maps.(*table).grow", Argument(2)).only(Swiss),
    Probe::new(E::Grow, Always, "internal/runtime/maps.(*table).split", Argument(2)).only(Swiss),

    // sync/mutex.go, sync/rwmutex.go; internal/sync/mutex.go since Go 1.24.
    Probe::new(E::LockSlow, Always, "sync.(*Mutex).lockSlow", Argument(0)),
    Probe::new(E::LockSlow, Always, "internal/sync.(*Mutex).lockSlow", Argument(0)),
    Probe::new(E::UnlockSlow, Always, "sync.(*Mutex).unlockSlow", Argument(0)),
    Probe::new(E::UnlockSlow, Always, "internal/sync.(*Mutex).unlockSlow", Argument(0)),
    Probe::new(E::ReadUnlockSlow, Always, "sync.(*RWMutex).rUnlockSlow", Argument(0)),
    // Called whether or not anybody waits.
    Probe::new(E::WriteLock, Governed, "sync.(*RWMutex).Lock", Argument(0)),
    Probe::new(E::WriteUnlock, Governed, "sync.(*RWMutex).Unlock", Argument(0)),

    // runtime/sema.go: semacquire1(addr, lifo, …), semrelease1(addr, …). All
    // sync.runtime_Semacquire… and …_Semrelease end there. The one call of
    // releaseSudog in semacquire1 is where a wait is over.
    Probe::new(E::SemaphoreAcquire, Always, "runtime.semacquire1", Argument(0)),
    Probe::new(E::SemaphoreAcquired, Always, "runtime.semacquire1", Nothing).at_call_to("runtime.releaseSudog"),
    Probe::new(E::SemaphoreRelease, Always, "runtime.semrelease1", Argument(0)),

    // runtime/mgc.go, runtime/proc.go.
    Probe::new(E::GcStart, Always, "runtime.gcStart", Nothing),
    Probe::new(E::GcEnd, Always, "runtime.gcMarkTermination", Nothing),
    Probe::new(E::WorldStop, Always, "runtime.stopTheWorldWithSema", Nothing),
    Probe::new(E::WorldStart, Always, "runtime.startTheWorldWithSema", Nothing),
    Probe::new(E::GoroutineStart, Governed, "runtime.newproc1", Nothing),
    Probe::new(E::GoroutineEnd, Governed, "runtime.goexit0", Nothing),

    // runtime/map.go, runtime/map_fast*.go: mapassign*(t, m, key).
    Probe::new(E::Assign, Governed, "runtime.mapassign", Argument(1)),
    Probe::new(E::Assign, Governed, "runtime.mapassign_fast32", Argument(1)),
    Probe::new(E::Assign, Governed, "runtime.mapassign_fast32ptr", Argument(1)),
    Probe::new(E::Assign, Governed, "runtime.mapassign_fast64", Argument(1)),
    Probe::new(E::Assign, Governed, "runtime.mapassign_fast64ptr", Argument(1)),
    Probe::new(E::Assign, Governed, "runtime.mapassign_faststr", Argument(1)),
    // mapdelete*(t, m, key), mapclear(t, m); Swiss: (m) Delete(typ, key), (m) Clear(typ).
    Probe::new(E::Delete, Governed, "runtime.mapdelete", Argument(1)).only(Classic),
    Probe::new(E::Delete, Governed, "runtime.mapdelete_fast32", Argument(1)).only(Classic),
    Probe::new(E::Delete, Governed, "runtime.mapdelete_fast64", Argument(1)).only(Classic),
    Probe::new(E::Delete, Governed, "runtime.mapdelete_faststr", Argument(1)).only(Classic),
    Probe::new(E::Clear, Governed, "runtime.mapclear", Argument(1)).only(Classic),
    Probe::new(E::Delete, Governed, "internal/runtime/maps.(*Map).Delete", Argument(0)).only(Swiss),
    Probe::new(E::Clear, Governed, "internal/runtime/maps.(*Map).Clear", Argument(0)).only(Swiss),
    // mapaccess1*(t, m, key), mapaccess2*(t, m, key). mapaccessK is the
    // iterator's own, mapaccess1_fat and mapaccess2_fat only call one of these.
    // In Go 1.27 the first only call the second.
    Probe::new(E::Access, Governed, "runtime.mapaccess1", Argument(1)).unless_calls("runtime.mapaccess2"),
    Probe::new(E::Access, Governed, "runtime.mapaccess1_fast32", Argument(1)).unless_calls("runtime.mapaccess2_fast32"),
    Probe::new(E::Access, Governed, "runtime.mapaccess1_fast64", Argument(1)).unless_calls("runtime.mapaccess2_fast64"),
    Probe::new(E::Access, Governed, "runtime.mapaccess1_faststr", Argument(1)).unless_calls("runtime.mapaccess2_faststr"),
    Probe::new(E::Access, Governed, "runtime.mapaccess2", Argument(1)),
    Probe::new(E::Access, Governed, "runtime.mapaccess2_fast32", Argument(1)),
    Probe::new(E::Access, Governed, "runtime.mapaccess2_fast64", Argument(1)),
    Probe::new(E::Access, Governed, "runtime.mapaccess2_faststr", Argument(1)),
    // mapiterinit(t, h, it), mapiternext(it); mapIterStart(t, m, it), (it) Next().
    // The start calls the first Next itself. In Go 1.25 classic maps have the new names, too.
    Probe::new(E::IterateStart, Governed, "runtime.mapiterinit", Argument(1)).only(Classic),
    Probe::new(E::IterateNext, Governed, "runtime.mapiternext", Iter(0)).only(Classic),
    Probe::new(E::IterateStart, Governed, "runtime.mapIterStart", Argument(1)).unless_calls("runtime.mapiterinit"),
    Probe::new(E::IterateNext, Governed, "runtime.mapIterNext", Iter(0)).only(Classic).unless_calls("runtime.mapiternext"),
    Probe::new(E::IterateNext, Governed, "internal/runtime/maps.(*Iter).Next", Iter(0)).only(Swiss),

    // sync/map.go; internal/sync/hashtriemap.go since Go 1.24, which uses no map of the runtime.
    Probe::new(E::SyncMapLoad, Governed, "sync.(*Map).Load", Argument(0)).unless_calls(trie!("Load")),
    Probe::new(E::SyncMapStore, Governed, "sync.(*Map).Store", Argument(0)).unless_calls("sync.(*Map).Swap"),
    Probe::new(E::SyncMapStore, Governed, "sync.(*Map).Swap", Argument(0)).unless_calls(trie!("Swap")),
    Probe::new(E::SyncMapLoadOrStore, Governed, "sync.(*Map).LoadOrStore", Argument(0)).unless_calls(trie!("LoadOrStore")),
    Probe::new(E::SyncMapDelete, Governed, "sync.(*Map).LoadAndDelete", Argument(0)).unless_calls(trie!("LoadAndDelete")),
    Probe::new(E::SyncMapRange, Governed, "sync.(*Map).Range", Argument(0)).unless_calls(trie!("Range")),
    Probe::new(E::SyncMapLoad, Governed, trie!("Load"), Argument(0)),
    Probe::new(E::SyncMapStore, Governed, trie!("Swap"), Argument(0)),
    Probe::new(E::SyncMapLoadOrStore, Governed, trie!("LoadOrStore"), Argument(0)),
    Probe::new(E::SyncMapDelete, Governed, trie!("LoadAndDelete"), Argument(0)),
    Probe::new(E::SyncMapRange, Governed, trie!("Range"), Argument(0)),
    // Arguments are gone at a return: the start of the same goroutine has them.
    Probe::new(E::SyncMapRangeEnd, Governed, "sync.(*Map).Range", Nothing).at_returns().unless_calls(trie!("Range")),
    Probe::new(E::SyncMapRangeEnd, Governed, trie!("Range"), Nothing).at_returns(),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_place_is_probed_twice() {
        let places: HashSet<_> = TABLE
            .iter()
            .map(|probe| (probe.function, format!("{:?}", probe.place)))
            .collect();
        assert_eq!(places.len(), TABLE.len());
    }

    #[test]
    fn operations_are_known_by_functions() {
        assert_eq!(operation("runtime.mapaccess2_fat"), Some(E::Access));
        assert_eq!(
            operation("internal/runtime/maps.(*Iter).Next"),
            Some(E::IterateNext)
        );
        assert_eq!(operation("runtime.hashGrow"), None);
        assert_eq!(operation("runtime.fatal"), None);
        assert_eq!(operation("main.mapaccess"), None);
    }

    #[test]
    fn subjects_are_in_registers() {
        for probe in TABLE {
            let (Argument(index) | Iter(index) | Text(index)) = probe.subject else {
                continue;
            };
            for machine in [Machine::Amd64, Machine::Arm64] {
                assert!(machine.argument(index).is_some(), "{}", probe.function);
            }
        }
    }

    #[test]
    fn what_is_rare_is_not_governed() {
        for probe in TABLE {
            let hot = matches!(
                group(probe.event),
                "write" | "read" | "iterate" | "sync.Map"
            );
            assert!(!hot || probe.level == Governed, "{}", probe.function);
        }
    }
}
