//! Whether the current thread may have a send in flight, without a look-up.

use crate::{
    atomic,
    maps::{HINT_SLOTS, HINTS},
};

/// A send of this thread began to be followed.
#[inline(always)]
pub fn open(id: u64) {
    if let Some(slot) = slot(id) {
        // SAFETY: a live map value.
        unsafe { atomic::add(slot, 1) };
    }
}

/// A send of this thread is no longer followed.
#[inline(always)]
pub fn close(id: u64) {
    if let Some(slot) = slot(id) {
        // SAFETY: a live map value.
        unsafe { atomic::add(slot, u64::MAX) };
    }
}

/// False: this thread certainly has no send in flight.
#[inline(always)]
pub fn maybe(id: u64) -> bool {
    // SAFETY: a live map value; a thread always sees its own additions.
    slot(id).is_some_and(|slot| unsafe { slot.read_volatile() } != 0)
}

#[inline(always)]
fn slot(id: u64) -> Option<*mut u64> {
    let hints = HINTS.get_ptr_mut(0)?;
    let index = id as usize & (HINT_SLOTS - 1);
    // SAFETY: the mask keeps the index inside the array.
    Some(unsafe { (&raw mut (*hints).counts).cast::<u64>().add(index) })
}
