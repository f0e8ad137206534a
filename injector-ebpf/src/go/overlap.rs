//! Two goroutines in one map at once. A goroutine marks the map while the program
//! of its probe runs: then it is inside of a function of the runtime on that map.
//! Whoever finds the mark of another one there is in the map together with it, and
//! no lock can have kept them apart.
//!
//! Marks are in a table by the map's address. A place that is taken already, by
//! another reader or by another map, is not marked again, so overlaps can be
//! missed, and cannot be made up.

use injector_ebpf::go::{Event, EventRecord, MARKS as PLACES};

use crate::{
    atomic,
    exchange::{compare_exchange, exchange},
    maps::{MARKS, Mark},
};

/// Places of one map.
pub struct Marked {
    own: Option<*mut Mark>,
}

/// The event's kind is above the goroutine's number.
const KIND_SHIFT: u32 = 56;
const GOROUTINE: u64 = (1 << KIND_SHIFT) - 1;

/// Marks the map of an operation, and notes in it who else is there.
#[inline(always)]
pub fn enter(event: &mut EventRecord, kind: Event) -> Marked {
    // Threads without a goroutine cannot be told apart.
    if event.goroutine_id == 0 {
        return Marked { own: None };
    }
    let map = event.subject ^ u64::from(event.target) << KIND_SHIFT;
    // Headers of maps are 8-byte aligned.
    let place = (map >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACES.ilog2());
    let Some(marks) = MARKS.get_ptr_mut(place as u32) else {
        return Marked { own: None };
    };
    let writes = kind.is_write() || matches!(kind, Event::Grow | Event::GrowStep);
    let me = event.goroutine_id & GOROUTINE | (kind as u64 + 1) << KIND_SHIFT;
    // SAFETY: a live map value.
    unsafe {
        let (writes_mark, reads_mark) = (&raw mut (*marks).writer, &raw mut (*marks).reader);
        let own = if writes { writes_mark } else { reads_mark };
        let taken = compare_exchange(&raw mut (*own).goroutine, 0, me) != 0;
        if !taken {
            (&raw mut (*own).map).write_volatile(map);
        }
        let mut other = if writes {
            other(reads_mark, map, me)
        } else {
            0
        };
        if other == 0 {
            other = self::other(writes_mark, map, me);
        }
        if other != 0 {
            event.overlaps = other & GOROUTINE;
            event.overlapped = (other >> KIND_SHIFT) as u8 - 1;
        }
        Marked {
            own: (!taken).then_some(own),
        }
    }
}

/// Takes the mark away.
#[inline(always)]
pub fn leave(marked: Marked) {
    if let Some(own) = marked.own {
        // SAFETY: a live map value. The map first: nobody may find it together
        // with the next one's mark.
        unsafe {
            (&raw mut (*own).map).write_volatile(0);
            exchange(&raw mut (*own).goroutine, 0);
        }
    }
}

/// The mark of another goroutine for this map; 0 for none.
///
/// # Safety
///
/// `mark` is in a live map value.
#[inline(always)]
unsafe fn other(mark: *mut Mark, map: u64, me: u64) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        let there = (&raw mut (*mark).goroutine).read_volatile();
        if there == 0 || (there ^ me) & GOROUTINE == 0 {
            return 0;
        }
        // It adds nothing, and orders this read between those around it.
        let marked = atomic::fetch_add(&raw mut (*mark).map, 0);
        let still = (&raw mut (*mark).goroutine).read_volatile();
        if marked == map && still == there {
            there
        } else {
            0
        }
    }
}
