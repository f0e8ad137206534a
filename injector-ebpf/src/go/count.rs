//! Counters, and the use of probes.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use injector_ebpf::go::Counter;

use crate::{
    atomic,
    maps::{SITES, STATS},
};

/// Adds one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: a live map value; `counter` is below the array's length by
        // its type. Atomic because a program can be preempted by another on
        // the same CPU.
        unsafe {
            let slot = (&raw mut (*stats).values)
                .cast::<u64>()
                .add(counter as usize);
            atomic::add(slot, 1);
        }
    }
}

/// A hit of a probe; returns the time that it has taken since `start`, both in
/// nanoseconds.
#[inline(always)]
pub fn hit(site: u16, start: u64) -> u64 {
    // SAFETY: a helper without preconditions.
    let taken = unsafe { bpf_ktime_get_ns() } - start;
    if let Some(stats) = SITES.get_ptr_mut(u32::from(site)) {
        // SAFETY: a live map value; atomic as above.
        unsafe {
            atomic::add(&raw mut (*stats).hits, 1);
            atomic::add(&raw mut (*stats).ns, taken);
        }
    }
    taken
}
