//! Every map of the tracer, with the reason for its size.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use injector_ebpf::go::{
    EVENTS_BYTES, EventRecord, FatalRecord, Gate, History, Hold, Layout, MARKS as PLACES,
    MAX_SITES, MAX_TARGETS, MAX_WATCHES, Recent, SiteStats, Stats, Watch,
};

/// A goroutine of a process. Their numbers are never used again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GoroutineKey {
    /// Its number.
    pub id: u64,
    /// The process.
    pub tgid: u64,
}

/// A map of a process. Its address can be that of another map later.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MapKey {
    /// Address of its header.
    pub address: u64,
    /// The process.
    pub tgid: u64,
}

/// A goroutine that is in an operation on a map at this moment; both 0 for none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mark {
    /// Its number, and above it the kind of its operation.
    pub goroutine: u64,
    /// The map.
    pub map: u64,
}

/// Marks of one place. Reads of one map can overlap each other, and only one of
/// them is marked.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Marks {
    /// One that writes.
    pub writer: Mark,
    /// One that reads or iterates.
    pub reader: Mark,
    /// Nothing: a cache line each.
    pub unused: [u64; 4],
}

/// A thread that could run and has no CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Waiting {
    /// Since when, in nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Number of the goroutine that it runs.
    pub goroutine: u64,
    /// The thread.
    pub tid: u32,
    /// [`injector_ebpf::go::Cookie::target`]
    pub target: u32,
}

/// The Go programs that are traced, by [`injector_ebpf::go::Cookie::target`].
#[map]
pub static LAYOUTS: Array<Layout> = Array::with_max_entries(MAX_TARGETS, 0);

/// [`injector_ebpf::go::Cookie::target`] of each process that is traced.
#[map]
pub static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// Threads that could run and have no CPU, by the address of their `task_struct`:
/// of goroutines only, and each is gone when it has its CPU back, so that there are
/// no more than goroutines that a program runs at once (`GOMAXPROCS`).
#[map]
pub static NO_CPU: HashMap<u64, Waiting> = HashMap::with_max_entries(4096, 0);

/// The last operation of each goroutine. LRU: 32,768 goroutines that use maps
/// in 6 MB; of more, the idlest are forgotten, and the one that ends the program
/// has just done something.
#[map]
pub static GOROUTINES: LruHashMap<GoroutineKey, EventRecord> =
    LruHashMap::with_max_entries(32_768, 0);

/// What is known of each map that was written to. LRU: 4,096 maps in 14 MB; of
/// more, the idlest are forgotten.
#[map]
pub static MAPS: LruHashMap<MapKey, History> = LruHashMap::with_max_entries(4096, 0);

/// The order in which the maps of a program were written, by
/// [`injector_ebpf::go::Cookie::target`].
#[map]
pub static RECENT: Array<Recent> = Array::with_max_entries(MAX_TARGETS, 0);

/// What a new entry begins as: too large for the stack. Never written.
#[map]
pub static EMPTY: Array<FatalRecord> = Array::with_max_entries(1, 0);

/// Use of each probe.
#[map]
pub static SITES: PerCpuArray<SiteStats> = PerCpuArray::with_max_entries(MAX_SITES, 0);

/// Who is in a map at this moment. Two maps that come to the same place hide each
/// other's overlaps: with some hundred in use at the same instant, few do.
#[map]
pub static MARKS: Array<Marks> = Array::with_max_entries(PLACES, 0);

/// What the budget allows, from userspace.
#[map]
pub static GATE: Array<Gate> = Array::with_max_entries(1, 0);

/// What all probes that are governed have cost, in nanoseconds.
#[map]
pub static SPENT: Array<u64> = Array::with_max_entries(1, 0);

/// Counters, one set per CPU.
#[map]
pub static STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(1, 0);

/// Fatal errors. A program has a few at most: several goroutines that find the
/// same map in use. 1 MiB holds 27 of them, for 16 programs.
#[map]
pub static FATALS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Events. Saturated, a thread of a Go program makes some 400,000 a second, of
/// 160 bytes each: 8 MiB hold what four such threads make in 30 ms.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Programs that are to be stopped when they end themselves: not 0. Written by
/// userspace alone, so that it can be taken back at any time.
#[map]
pub static HOLD_ARMED: Array<u64> = Array::with_max_entries(MAX_TARGETS, 0);

/// Those that were.
#[map]
pub static HOLDS: Array<Hold> = Array::with_max_entries(MAX_TARGETS, 0);

/// Wakes who waits for a hold, several processes at once: nothing is ever read
/// from it. A page is the least; each program rings once.
#[map]
pub static HOLD_BELL: RingBuf = RingBuf::with_byte_size(4096, 0);

/// The maps that are watched by hardware.
#[map]
pub static WATCHES: Array<Watch> = Array::with_max_entries(MAX_WATCHES, 0);

/// What they tell. At 15 us for a hit, a CPU cannot make more than 70,000 in a
/// second: 2 MiB hold 13,000, so a fifth of a second of one.
#[map]
pub static WATCHED: RingBuf = RingBuf::with_byte_size(2 << 20, 0);

/// Hits that it had no room for.
#[map]
pub static WATCHED_LOST: Array<u64> = Array::with_max_entries(1, 0);
