//! Every map, with the reason for its size.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use injector_ebpf::{
    BUDGETS, Budget, Control, InFlight, MAX_RULES, Margins, QuantileTable, Rule, SLEEP_SLOTS,
    Setup, Sleep, Stats, TABLES, Target,
    go::{Layout, MAX_TARGETS},
};

/// What is remembered of a thread of a target.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// Order in which threads first sent.
    pub ordinal: u64,
    /// Matched sends so far.
    pub calls: u64,
}

/// Counts of sends in flight by the low bits of the thread id, so that the
/// return of a bystander's send costs one array load and no look-up.
#[repr(C)]
pub struct Hints {
    /// One count per slot.
    pub counts: [u64; HINT_SLOTS],
}

/// A power of two; collisions only cost the look-up that they would save.
pub const HINT_SLOTS: usize = 4096;

/// Filled by the loader, see [`Setup`].
#[unsafe(no_mangle)]
static SETUP: Setup = Setup {
    offsets: injector_ebpf::Offsets::NONE,
    own_tgid: 0,
    holder_is_ancestor: 0,
};

/// Reads one member of [`SETUP`]; volatile, or the compiler would use the
/// value from compile time.
macro_rules! setup {
    ($($member:ident).+) => {
        // SAFETY: a static of plain integers, frozen before the program runs.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::setup_ptr()).$($member).+) }
    };
}
pub(crate) use setup;

/// Address of [`SETUP`].
#[inline(always)]
pub fn setup_ptr() -> *const Setup {
    &raw const SETUP
}

/// Target processes by tgid. The loader sets the size to `--max-targets`: the
/// map itself is the ceiling, also for children that the kernel side adds.
#[map]
pub static TARGETS: HashMap<u32, Target> = HashMap::with_max_entries(256, 0);

/// The rule table.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(MAX_RULES, 0);

/// Delay distributions.
#[map]
pub static QUANTILES: Array<QuantileTable> = Array::with_max_entries(TABLES, 0);

/// Run-time control, one value. The sleep engine's server maps it, to see the
/// lease.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Use of the ceilings, see [`BUDGETS`].
#[map]
pub static BUDGET: Array<Budget> = Array::with_max_entries(BUDGETS, 0);

/// Counters, one set per CPU.
#[map]
pub static STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(1, 0);

/// Threads of targets. LRU: a host with more sending threads than this forgets
/// the call index of the idlest, which restarts its `when` count.
#[map]
pub static THREADS: LruHashMap<u32, Thread> = LruHashMap::with_max_entries(32_768, 0);

/// Sends in flight by `bpf_get_current_pid_tgid`. A thread has one at most, so
/// this bounds how many target threads can be followed at once.
#[map]
pub static IN_FLIGHT: HashMap<u64, InFlight> = HashMap::with_max_entries(16_384, 0);

/// See [`Hints`].
#[map]
pub static HINTS: Array<Hints> = Array::with_max_entries(1, 0);

/// Sleeping threads; the sleep engine's server maps it.
#[map]
pub static SLEEPS: Array<Sleep> = Array::with_max_entries(SLEEP_SLOTS, BPF_F_MMAPABLE);

/// How many threads have a slot, one value.
#[map]
pub static SLEEPERS: Array<u64> = Array::with_max_entries(1, 0);

/// How early sleepers are woken, one value.
#[map]
pub static MARGINS: Array<Margins> = Array::with_max_entries(1, 0);

/// Send records. 16 MiB hold 80,000 records: at 500,000 a second, 160 ms of a
/// daemon that does not get to run.
#[map]
pub static SENDS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Stacks of sends by goroutines. 8 MiB hold 36,000: a send has at most one.
#[map]
pub static STACKS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Go programs whose goroutines are known, by tgid: as many as the map tracer
/// can trace at once.
#[map]
pub static GO_PROGRAMS: HashMap<u32, Layout> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// Process events.
#[map]
pub static LIFECYCLE: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
