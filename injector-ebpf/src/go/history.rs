//! What is remembered: the last operation of each goroutine, and for each map
//! the last write of each of its writers and its last operations.

use core::ptr;

use aya_ebpf::bindings::BPF_NOEXIST;
use injector_ebpf::go::{
    Counter, Event, EventRecord, History, RECENT_WRITES, TOUCHES, Touch, WRITERS,
};

use crate::{
    atomic,
    count::count,
    maps::{EMPTY, GOROUTINES, GoroutineKey, MAPS, MapKey, RECENT},
};

/// Remembers an operation.
#[inline(always)]
pub fn remember(op: &EventRecord, kind: Event, tgid: u32) {
    // A write that makes the map grow is still that write.
    if !matches!(kind, Event::Grow | Event::GrowStep) {
        put_last(op, tgid);
    }
    let Some(history) = of_map(op.subject, tgid, kind) else {
        return;
    };
    // SAFETY: a live map value.
    unsafe {
        touch(history, op);
        if kind.is_write() {
            write(history, op);
            note(op);
        }
    }
}

#[inline(always)]
fn put_last(op: &EventRecord, tgid: u32) {
    let key = GoroutineKey {
        id: op.goroutine_id,
        tgid: u64::from(tgid),
    };
    if let Some(last) = GOROUTINES.get_ptr_mut(&key) {
        // SAFETY: a live map value, which only this goroutine uses.
        unsafe { ptr::write(last, *op) };
    } else if GOROUTINES.insert(&key, op, 0).is_err() {
        count(Counter::GoroutinesFull);
    }
}

/// The history of a map. One that was only read has none: no goroutine can be
/// in the way of another there.
#[inline(always)]
fn of_map(address: u64, tgid: u32, kind: Event) -> Option<*mut History> {
    let key = MapKey {
        address,
        tgid: u64::from(tgid),
    };
    let known = MAPS.get_ptr_mut(&key);
    if known.is_some() || !kind.is_write() {
        return known;
    }
    let empty = EMPTY.get_ptr(0)?;
    // The other one that is first at the same time must not be wiped out.
    // SAFETY: a live map value that is never written.
    let _ = MAPS.insert(
        &key,
        unsafe { &(*empty).maps[0].history },
        u64::from(BPF_NOEXIST),
    );
    let new = MAPS.get_ptr_mut(&key);
    if new.is_none() {
        count(Counter::MapsFull);
    }
    new
}

/// # Safety
///
/// `history` is a live map value.
#[inline(always)]
unsafe fn touch(history: *mut History, op: &EventRecord) {
    // SAFETY: the caller's; the index is below the array's length.
    unsafe {
        let index = atomic::fetch_add(&raw mut (*history).touched, 1) as usize % TOUCHES;
        let touch = (&raw mut (*history).touches).cast::<Touch>().add(index);
        touch.write(Touch {
            time_ns: op.time_ns,
            goroutine_id: op.goroutine_id,
            callers: [op.frames[1], op.frames[2]],
            tid: op.tid,
            site: op.site,
            kind: op.kind,
            reserved: 0,
        });
    }
}

/// # Safety
///
/// `history` is a live map value.
#[inline(always)]
unsafe fn write(history: *mut History, op: &EventRecord) {
    // SAFETY: the caller's; all indices are below their arrays' lengths.
    unsafe {
        let writers = (&raw mut (*history).writers).cast::<u64>();
        let mut slot = WRITERS;
        for index in 0..WRITERS {
            if writers.add(index).read_volatile() == op.goroutine_id {
                slot = index;
                break;
            }
        }
        if slot == WRITERS {
            // Two new ones at the same time get two slots.
            slot = atomic::fetch_add(&raw mut (*history).claims, 1) as usize % WRITERS;
            writers.add(slot).write_volatile(op.goroutine_id);
        }
        let slot = slot % WRITERS;
        let turn = (&raw mut (*history).turns).cast::<u64>().add(slot);
        let next = turn.read_volatile() + 1;
        let place = slot * 2 + (next as usize & 1);
        (&raw mut (*history).writes)
            .cast::<EventRecord>()
            .add(place)
            .write(*op);
        turn.write_volatile(next);
    }
}

/// Remembers that this map is the one that was written last. One that was so
/// before takes no other place.
#[inline(always)]
fn note(op: &EventRecord) {
    let Some(recent) = RECENT.get_ptr_mut(u32::from(op.target)) else {
        return;
    };
    // SAFETY: a live map value; indices are below the array's length.
    unsafe {
        let maps = (&raw mut (*recent).maps).cast::<u64>();
        let count = (&raw mut (*recent).count).read_volatile();
        let last = maps.add(count.wrapping_sub(1) as usize % RECENT_WRITES);
        if last.read_volatile() != op.subject {
            let count = atomic::fetch_add(&raw mut (*recent).count, 1);
            maps.add(count as usize % RECENT_WRITES)
                .write_volatile(op.subject);
        }
    }
}
