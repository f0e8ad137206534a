//! Counters.

use injector_ebpf::Counter;

use crate::{atomic, maps::STATS};

/// Adds one.
#[inline(always)]
pub fn count(counter: Counter) {
    add(counter, 1);
}

/// Adds `amount`.
#[inline(always)]
pub fn add(counter: Counter, amount: u64) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: a live map value; `counter` is below the array's length by
        // its type. Atomic because a program can be preempted by another on
        // the same CPU.
        unsafe {
            let slot = (&raw mut (*stats).values)
                .cast::<u64>()
                .add(counter as usize);
            atomic::add(slot, amount);
        }
    }
}
