//! The ABI of the map tracer: what its programs are told about a Go program
//! and what they tell about it. As for all of the ABI: `#[repr(C)]` without
//! padding, nanoseconds of `CLOCK_MONOTONIC`.

/// Frames kept of a map operation: enough to leave the runtime and show who
/// called; each costs a read of user memory.
pub const OP_FRAMES: usize = 10;
/// Frames of the goroutine that ends the program.
pub const FATAL_FRAMES: usize = 32;
/// Goroutines whose last write is remembered for each map, a power of two. As
/// long as one of them is in a write, each other that comes to the map ends the
/// program, so the one that matters is never pushed out by more than those that
/// came before it was marked as writing.
pub const WRITERS: usize = 8;
/// Operations of any kind that are remembered for each map, a power of two.
pub const TOUCHES: usize = 32;
/// Longest part of a message that is kept, in bytes. The longest of Go's own
/// about maps has 41.
pub const MESSAGE_LEN: usize = 128;
/// Bytes of a map's header that are frozen: `runtime.hmap` has 48 (Go 1.19 to
/// 1.23), `internal/runtime/maps.Map` 48 (1.25 to 1.27, 40 in 1.24).
pub const MAP_BYTES: usize = 48;
/// Bytes of an iterator that are frozen: `runtime.hiter` has 96, and
/// `internal/runtime/maps.Iter` no more.
pub const ITERATOR_BYTES: usize = 96;
/// Maps that are frozen when a program ends itself, beside the one that the
/// goroutine's last operation was on: of those that were written last. The one
/// that the error is about is among them when only its writes are traced.
/// One less than a power of two.
pub const RECENT_MAPS: usize = 7;
/// Bytes of the goroutine's stack that are frozen when it ends the program: from
/// the frame of who called `runtime.fatal` on, so that the iterator of a loop is
/// among them.
pub const STACK_BYTES: usize = 2048;
/// Writes of any map of a program that are remembered in their order, a power
/// of two.
pub const RECENT_WRITES: usize = 32;
/// In place of an offset: it is not known where the field is.
pub const NO_FIELD: u32 = u32::MAX;
/// Maps that are watched by hardware: a thread has four registers for it on
/// amd64 (arch/x86/include/uapi/asm/debugreg.h), and that many on most arm64.
pub const MAX_WATCHES: u32 = 4;
/// Probes of all targets together.
pub const MAX_SITES: u32 = 1024;
/// Go programs at once.
pub const MAX_TARGETS: u32 = 16;
/// Places in the table of maps that somebody is in; a power of two.
pub const MARKS: u32 = 4096;
/// Waits for a CPU that are told, in nanoseconds: a shorter one explains nothing.
pub const LEAST_NO_CPU_NS: u64 = 50_000;
/// Size of the ring of events.
pub const EVENTS_BYTES: u32 = 8 << 20;
/// Userspace is woken when this much waits for it.
pub const EVENTS_WAKE_BYTES: u64 = EVENTS_BYTES as u64 / 4;

numbered! {
    /// What has happened when a probe is hit.
    Event {
        /// Writes an element.
        Assign = 0 => "assign",
        /// Deletes an element.
        Delete = 1 => "delete",
        /// Deletes all elements.
        Clear = 2 => "clear",
        /// Reads an element.
        Access = 3 => "access",
        /// Begins to iterate.
        IterateStart = 4 => "iterate_start",
        /// Goes on iterating.
        IterateNext = 5 => "iterate_next",
        /// Makes the map grow, in the middle of a write.
        Grow = 6 => "grow",
        /// Moves some of a growing map's elements.
        GrowStep = 7 => "grow_step",
        /// `sync.Map`: reads.
        SyncMapLoad = 8 => "sync_map_load",
        /// `sync.Map`: writes.
        SyncMapStore = 9 => "sync_map_store",
        /// `sync.Map`: reads, or writes if it was not there.
        SyncMapLoadOrStore = 10 => "sync_map_load_or_store",
        /// `sync.Map`: deletes.
        SyncMapDelete = 11 => "sync_map_delete",
        /// `sync.Map`: begins to iterate.
        SyncMapRange = 12 => "sync_map_range",
        /// `sync.Map`: is done iterating.
        SyncMapRangeEnd = 13 => "sync_map_range_end",
        /// Finds a mutex not free.
        LockSlow = 14 => "lock_slow",
        /// Releases a mutex that others wait for.
        UnlockSlow = 15 => "unlock_slow",
        /// Releases a reader's lock that a writer waits for.
        ReadUnlockSlow = 16 => "read_unlock_slow",
        /// Asks for a writer's lock.
        WriteLock = 17 => "write_lock",
        /// Releases a writer's lock.
        WriteUnlock = 18 => "write_unlock",
        /// Asks for a semaphore.
        SemaphoreAcquire = 19 => "semaphore_acquire",
        /// Has waited for a semaphore.
        SemaphoreAcquired = 20 => "semaphore_acquired",
        /// Releases a semaphore.
        SemaphoreRelease = 21 => "semaphore_release",
        /// Begins a garbage collection.
        GcStart = 22 => "gc_start",
        /// Begins its last phase.
        GcEnd = 23 => "gc_end",
        /// Stops all goroutines.
        WorldStop = 24 => "world_stop",
        /// Lets them go on.
        WorldStart = 25 => "world_start",
        /// Makes a goroutine.
        GoroutineStart = 26 => "goroutine_start",
        /// Ends.
        GoroutineEnd = 27 => "goroutine_end",
        /// Panics.
        Panic = 28 => "panic",
        /// Ends the program, which is at fault (`runtime.fatal`).
        Fatal = 29 => "fatal",
        /// Ends the program, whose runtime is at fault, or so it looks
        /// (`runtime.throw`).
        Throw = 30 => "throw",
        /// Marks a watched map as being written to.
        WatchSet = 31 => "watch_set",
        /// Takes that back.
        WatchClear = 32 => "watch_clear",
        /// Has its CPU back, which others had although it could run.
        NoCpu = 33 => "no_cpu",
    }
}

impl Event {
    /// Whether this marks a map of the runtime as being written to. Growth is
    /// part of a write that was seen to begin.
    #[inline(always)]
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Assign | Self::Delete | Self::Clear)
    }

    /// Whether a goroutine does something with a map of the runtime.
    #[inline(always)]
    pub const fn is_map_op(self) -> bool {
        (self as u8) <= Self::GrowStep as u8
    }
}

numbered! {
    /// What the tracer's programs count.
    Counter {
        /// Hits by other processes that run the same file.
        Foreign = 0 => "foreign",
        /// Hits whose goroutine or map could not be read.
        Unreadable = 1 => "unreadable",
        /// Operations lost because the table of goroutines was full.
        GoroutinesFull = 2 => "goroutines_full",
        /// Writes lost because the table of maps was full.
        MapsFull = 3 => "maps_full",
        /// Fatal errors lost because their ring buffer was full.
        FatalsDropped = 4 => "fatals_dropped",
        /// Events lost because their ring buffer was full.
        EventsDropped = 5 => "events_dropped",
        /// Hits that were only counted because the budget was used up.
        Gated = 6 => "gated",
        /// Waits for a CPU lost because the table of threads was full.
        ThreadsFull = 7 => "threads_full",
    }
}

/// The counters of one CPU, indexed by [`Counter`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Values, in the order of [`Counter::ALL`].
    pub values: [u64; Counter::ALL.len()],
}

/// Use of one probe on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteStats {
    /// How often it was hit.
    pub hits: u64,
    /// Time spent in the program, in nanoseconds. The trap itself is not in it.
    pub ns: u64,
}

/// What hits may cost. What they have cost is counted beside it, in nanoseconds:
/// for each hit the trap, by how the kernel goes on after it, and the time in the
/// program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// When they have cost this much in all, in nanoseconds, hits are only
    /// counted, and userspace is woken.
    pub allowed_ns: u64,
    /// What a trap costs, in nanoseconds: where the kernel emulates the probed
    /// instruction, and where it executes a copy.
    pub trap_ns: [u64; 2],
}

/// In place of the number of an argument: there is none.
pub const NO_ARGUMENT: u8 = 7;

/// What a probe is, in the 64 bits that the kernel hands to the program with
/// each hit. Arguments are numbers of Go's integer argument registers
/// (`ABIInternal`, src/cmd/compile/abi-internal.md): RAX, RBX, RCX, RDI, RSI,
/// R8, R9 on amd64 from 0 to 6, R0 to R6 on arm64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// An [`Event`].
    pub kind: u8,
    /// The argument that is the map or whatever it is about, or [`NO_ARGUMENT`]:
    /// then the iterator has the map, if there is one.
    pub subject: u8,
    /// The argument that is the map's type, or [`NO_ARGUMENT`].
    pub map_type: u8,
    /// The argument that is the iterator, or [`NO_ARGUMENT`].
    pub iterator: u8,
    /// The return address is still on top of the stack (amd64) or in the link
    /// register (arm64): the function has not made its frame.
    pub at_entry: bool,
    /// The kernel executes a copy of the probed instruction, which costs more.
    pub single_stepped: bool,
    /// It is on the jump that is taken when the stack has to grow; then the
    /// function begins anew, and the probe is hit again.
    pub repeats: bool,
    /// Index into the table of [`SiteStats`].
    pub site: u16,
    /// Index into the table of [`Layout`]s.
    pub target: u16,
}

impl Cookie {
    /// As the kernel keeps it.
    #[inline(always)]
    pub const fn encode(self) -> u64 {
        self.kind as u64
            | (self.subject as u64 & 0xf) << 8
            | (self.map_type as u64 & 0xf) << 12
            | (self.iterator as u64 & 0xf) << 16
            | (self.at_entry as u64) << 20
            | (self.single_stepped as u64) << 21
            | (self.repeats as u64) << 22
            | (self.site as u64) << 32
            | (self.target as u64) << 48
    }

    /// The reverse of [`Self::encode`].
    #[inline(always)]
    pub const fn decode(cookie: u64) -> Self {
        Self {
            kind: cookie as u8,
            subject: (cookie >> 8) as u8 & 0xf,
            map_type: (cookie >> 12) as u8 & 0xf,
            iterator: (cookie >> 16) as u8 & 0xf,
            at_entry: (cookie >> 20) & 1 != 0,
            single_stepped: (cookie >> 21) & 1 != 0,
            repeats: (cookie >> 22) & 1 != 0,
            site: (cookie >> 32) as u16,
            target: (cookie >> 48) as u16,
        }
    }
}

/// A Go program, and where its runtime keeps what: offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Process id; 0 for none.
    pub tgid: u32,
    /// `g.goid` (runtime/runtime2.go).
    pub goroutine_id: u32,
    /// `g.m` (runtime/runtime2.go).
    pub goroutine_thread: u32,
    /// `m.curg` (runtime/runtime2.go).
    pub thread_goroutine: u32,
    /// `hiter.h` (runtime/map.go) or `Iter.m` (internal/runtime/maps/table.go).
    pub iterator_map: u32,
    /// `g.parentGoid` (runtime/runtime2.go), or [`NO_FIELD`].
    pub goroutine_parent: u32,
    /// `g.gopc` (runtime/runtime2.go), or [`NO_FIELD`].
    pub goroutine_creator: u32,
    /// `g.startpc` (runtime/runtime2.go), or [`NO_FIELD`].
    pub goroutine_start: u32,
}

/// A map that is watched by hardware.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Address of the byte that says that it is being written to; 0 for none.
    pub byte: u64,
    /// Address of the map's header.
    pub map: u64,
    /// The bit of that byte.
    pub mask: u32,
    /// Index into the table of [`SiteStats`].
    pub site: u16,
    /// Index into the table of [`Layout`]s.
    pub target: u16,
}

/// One hit of a probe. An operation is recorded at its beginning.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventRecord {
    /// When the probe was hit; 0 for no event.
    pub time_ns: u64,
    /// The goroutine.
    pub goroutine_id: u64,
    /// Address of its `g`.
    pub goroutine: u64,
    /// Address of what it is about: the header of a map, a `sync.Map`, a lock,
    /// a semaphore; 0 for nothing.
    pub subject: u64,
    /// Address of the map's type, 0 when the probe cannot tell.
    pub map_type: u64,
    /// Address of the iterator, 0 for none. Of a watched map: hits that were lost
    /// before. Of [`Event::NoCpu`]: for how long, in nanoseconds.
    pub iterator: u64,
    /// Of an operation on a map: another goroutine that was in an operation on
    /// the same map at this very moment, one of the two being a write; 0 for
    /// none. Both were inside of functions of the runtime that must not overlap,
    /// so they were not ordered by any lock.
    pub overlaps: u64,
    /// The thread.
    pub tid: u32,
    /// The probe.
    pub site: u16,
    /// An [`Event`].
    pub kind: u8,
    /// How many frames there are.
    pub depth: u8,
    /// Index into the table of [`Layout`]s.
    pub target: u16,
    /// The [`Event`] of the operation that this one overlaps.
    pub overlapped: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// The probed instruction, then return addresses, innermost first.
    pub frames: [u64; OP_FRAMES],
}

/// One operation in a map's history.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// When the probe was hit; 0 for no operation.
    pub time_ns: u64,
    /// The goroutine.
    pub goroutine_id: u64,
    /// The first two return addresses, 0 when not known: of Swiss maps, the
    /// first can be in a wrapper of the runtime.
    pub callers: [u64; 2],
    /// The thread.
    pub tid: u32,
    /// The probe.
    pub site: u16,
    /// An [`Event`].
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
}

/// What is remembered of a map, from the first write on that was seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Slots of [`Self::writers`] that were given out.
    pub claims: u64,
    /// Operations that were put into [`Self::touches`]; the oldest are
    /// overwritten.
    pub touched: u64,
    /// Goroutines that wrote, one per slot; 0 for a free slot.
    pub writers: [u64; WRITERS],
    /// Writes of that goroutine. Its last one is at the slot's two places of
    /// [`Self::writes`], at the second if this is odd.
    pub turns: [u64; WRITERS],
    /// Two places per slot, written in turn: the last complete entry can be read
    /// while the next is written.
    pub writes: [EventRecord; 2 * WRITERS],
    /// The last operations of any kind, in a ring.
    pub touches: [Touch; TOUCHES],
}

impl History {
    /// Nothing is known.
    pub const EMPTY: Self = Self {
        claims: 0,
        touched: 0,
        writers: [0; WRITERS],
        turns: [0; WRITERS],
        writes: [NO_EVENT; 2 * WRITERS],
        touches: [NO_TOUCH; TOUCHES],
    };
}

const NO_EVENT: EventRecord = EventRecord {
    time_ns: 0,
    goroutine_id: 0,
    goroutine: 0,
    subject: 0,
    map_type: 0,
    iterator: 0,
    overlaps: 0,
    tid: 0,
    site: 0,
    kind: 0,
    depth: 0,
    target: 0,
    overlapped: 0,
    reserved: [0; 5],
    frames: [0; OP_FRAMES],
};

const NO_TOUCH: Touch = Touch {
    time_ns: 0,
    goroutine_id: 0,
    callers: [0; 2],
    tid: 0,
    site: 0,
    kind: 0,
    reserved: 0,
};

/// Who made a goroutine, as its `g` says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Number of the goroutine; 0 when its `g` could not be read or belongs to
    /// another by now.
    pub goroutine_id: u64,
    /// Number of the goroutine that made it; 0 when not known.
    pub parent: u64,
    /// Return address of the `go` statement; 0 when not known.
    pub creator: u64,
    /// Entry of its first function; 0 when not known.
    pub start: u64,
}

/// Bits of [`FrozenMap::flags`].
pub mod frozen_flags {
    /// [`super::FrozenMap::history`] is there.
    pub const HISTORY: u64 = 1;
    /// [`super::FrozenMap::header`] could be read.
    pub const HEADER: u64 = 1 << 1;
}

/// A map, with all that was known of it at one instant.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrozenMap {
    /// Address of its header; 0 for none.
    pub address: u64,
    /// Bits of [`frozen_flags`].
    pub flags: u64,
    /// Its header.
    pub header: [u8; MAP_BYTES],
    /// What goroutines did with it.
    pub history: History,
    /// Of the goroutines that wrote it, by slot.
    pub origins: [Origin; WRITERS],
}

impl FrozenMap {
    /// None.
    pub const EMPTY: Self = Self {
        address: 0,
        flags: 0,
        header: [0; MAP_BYTES],
        history: History::EMPTY,
        origins: [NO_ORIGIN; WRITERS],
    };
}

const NO_ORIGIN: Origin = Origin {
    goroutine_id: 0,
    parent: 0,
    creator: 0,
    start: 0,
};

/// The maps of a program in the order of their writes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Writes so far.
    pub count: u64,
    /// Addresses of the maps, in a ring.
    pub maps: [u64; RECENT_WRITES],
}

/// A process that was stopped when it ended itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Goroutines that came to stop it; only the first did.
    pub claims: u64,
    /// When it was stopped; 0 for never.
    pub since_ns: u64,
}

/// Bits of [`FatalRecord::flags`].
pub mod fatal_flags {
    /// The goroutine had done something with a map: [`super::FatalRecord::last`].
    pub const LAST: u8 = 1;
    /// The iterator could be read.
    pub const ITERATOR: u8 = 1 << 1;
    /// The process was stopped to be looked at.
    pub const HELD: u8 = 1 << 2;
    /// It was to be stopped, and the kernel did not do it.
    pub const NOT_HELD: u8 = 1 << 3;
}

/// A program that ends itself, with all that was known of it at this instant.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalRecord {
    /// When the probe was hit.
    pub time_ns: u64,
    /// The goroutine.
    pub goroutine_id: u64,
    /// Address of its `g`.
    pub goroutine: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// The probe.
    pub site: u16,
    /// Index into the table of [`Layout`]s.
    pub target: u16,
    /// [`Event::Fatal`] or [`Event::Throw`].
    pub kind: u8,
    /// How many frames there are.
    pub depth: u8,
    /// Bits of [`fatal_flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// Whole length of the message, in bytes; more than [`MESSAGE_LEN`] of them
    /// are not there.
    pub message_length: u64,
    /// The message.
    pub message: [u8; MESSAGE_LEN],
    /// The probed instruction, then return addresses, innermost first.
    pub frames: [u64; FATAL_FRAMES],
    /// The goroutine's last operation on a map.
    pub last: EventRecord,
    /// The iterator of that operation.
    pub iterator: [u8; ITERATOR_BYTES],
    /// Who made the goroutine.
    pub origin: Origin,
    /// Its stack, outwards; zeroes behind its end.
    pub stack: [u8; STACK_BYTES],
    /// The map of its last operation, then others by their last write, latest
    /// first.
    pub maps: [FrozenMap; 1 + RECENT_MAPS],
}

#[allow(
    clippy::large_stack_arrays,
    reason = "a constant: the kernel side never has it on its stack"
)]
impl FatalRecord {
    /// Nothing is known.
    pub const EMPTY: Self = Self {
        time_ns: 0,
        goroutine_id: 0,
        goroutine: 0,
        tgid: 0,
        tid: 0,
        site: 0,
        target: 0,
        kind: 0,
        depth: 0,
        flags: 0,
        reserved: 0,
        message_length: 0,
        message: [0; MESSAGE_LEN],
        frames: [0; FATAL_FRAMES],
        last: NO_EVENT,
        iterator: [0; ITERATOR_BYTES],
        origin: NO_ORIGIN,
        stack: [0; STACK_BYTES],
        maps: [FrozenMap::EMPTY; 1 + RECENT_MAPS],
    };
}

#[cfg(test)]
mod tests {
    use core::mem::size_of;

    use super::*;

    #[test]
    fn records_have_no_padding() {
        assert_eq!(size_of::<Layout>(), 8 * 4);
        assert_eq!(size_of::<Gate>(), 3 * 8);
        assert_eq!(size_of::<EventRecord>(), 9 * 8 + OP_FRAMES * 8);
        assert_eq!(size_of::<Touch>(), 5 * 8);
        assert_eq!(
            size_of::<History>(),
            2 * 8
                + 2 * WRITERS * 8
                + 2 * WRITERS * size_of::<EventRecord>()
                + TOUCHES * size_of::<Touch>()
        );
        assert_eq!(size_of::<Watch>(), 3 * 8);
        assert_eq!(size_of::<Origin>(), 4 * 8);
        assert_eq!(
            size_of::<FrozenMap>(),
            2 * 8 + MAP_BYTES + size_of::<History>() + WRITERS * size_of::<Origin>()
        );
        assert_eq!(size_of::<Recent>(), 8 + RECENT_WRITES * 8);
        assert_eq!(
            size_of::<FatalRecord>(),
            6 * 8
                + MESSAGE_LEN
                + FATAL_FRAMES * 8
                + size_of::<EventRecord>()
                + ITERATOR_BYTES
                + size_of::<Origin>()
                + STACK_BYTES
                + (1 + RECENT_MAPS) * size_of::<FrozenMap>()
        );
    }

    #[test]
    fn rings_have_powers_of_two() {
        for size in [
            MARKS as usize,
            RECENT_WRITES,
            WRITERS,
            TOUCHES,
            1 + RECENT_MAPS,
        ] {
            assert!(size.is_power_of_two());
        }
    }

    #[test]
    fn cookies_round_trip() {
        let cookies = [
            Cookie {
                kind: Event::Grow as u8,
                subject: 1,
                map_type: 0,
                iterator: NO_ARGUMENT,
                at_entry: true,
                single_stepped: false,
                repeats: false,
                site: MAX_SITES as u16 - 1,
                target: MAX_TARGETS as u16 - 1,
            },
            Cookie {
                kind: 255,
                subject: NO_ARGUMENT,
                map_type: NO_ARGUMENT,
                iterator: 6,
                at_entry: false,
                single_stepped: true,
                repeats: true,
                site: u16::MAX,
                target: u16::MAX,
            },
        ];
        for cookie in cookies {
            assert_eq!(Cookie::decode(cookie.encode()), cookie);
        }
    }

    #[test]
    fn only_what_marks_the_map_is_a_write() {
        let writes = Event::ALL.iter().filter(|(kind, ..)| kind.is_write());
        let names: [&str; 3] = ["assign", "delete", "clear"];
        assert!(writes.map(|(_, name, _)| *name).eq(names));
        let last = Event::ALL.iter().rfind(|(kind, ..)| kind.is_map_op());
        assert!(last.is_some_and(|(_, name, _)| *name == "grow_step"));
    }
}
