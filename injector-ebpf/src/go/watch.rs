//! Hardware watchpoints on the flags of maps: hit when a goroutine marks a map
//! as being written to, and when it takes that back. In between it is in its
//! operation, and not for a nanosecond more.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::perf_event, programs::PerfEventContext};
use injector_ebpf::go::{Counter, Event, EventRecord, MAX_WATCHES, Watch};

use crate::{
    atomic,
    count::{count, hit},
    goroutine::{self, Goroutine},
    maps::{WATCHED, WATCHED_LOST, WATCHES},
    registers::Registers,
    stack, user,
};

/// The byte of a watched map was written.
#[perf_event]
pub fn go_watch(ctx: PerfEventContext) -> u32 {
    // SAFETY: a helper without preconditions, and the program's own context.
    let (start, address) = unsafe { (bpf_ktime_get_ns(), (*ctx.ctx).addr) };
    let Some(watch) = find(address) else {
        return 0;
    };
    let Some(layout) = goroutine::layout(watch.target) else {
        return 0;
    };
    let registers = Registers::of_event(&ctx);
    let Some(goroutine) = Goroutine::current(&registers, layout) else {
        count(Counter::Unreadable);
        return 0;
    };
    let Some(flags) = user::read::<u8>(address) else {
        count(Counter::Unreadable);
        return 0;
    };
    let Some(lost) = WATCHED_LOST.get_ptr_mut(0) else {
        return 0;
    };
    let Some(mut entry) = WATCHED.reserve::<EventRecord>(0) else {
        count(Counter::EventsDropped);
        // SAFETY: a live map value.
        unsafe { atomic::add(lost, 1) };
        hit(watch.site, start);
        return 0;
    };
    let kind = if flags & watch.mask as u8 == 0 {
        Event::WatchClear
    } else {
        Event::WatchSet
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reserved memory is of this size, and every byte is written.
    unsafe {
        record.write(EventRecord {
            time_ns: start,
            goroutine_id: goroutine.id,
            goroutine: goroutine.address,
            subject: watch.map,
            iterator: lost.read_volatile(),
            tid: goroutine.tid,
            site: watch.site,
            kind: kind as u8,
            target: watch.target,
            ..EventRecord::default()
        });
        // The function has its frame by now.
        (*record).depth = stack::walk(&raw mut (*record).frames, &registers, false);
    }
    entry.submit(0);
    hit(watch.site, start);
    0
}

#[inline(always)]
fn find(address: u64) -> Option<&'static Watch> {
    for index in 0..MAX_WATCHES {
        if let Some(watch) = WATCHES.get(index)
            && watch.byte == address
            && address != 0
        {
            return Some(watch);
        }
    }
    None
}
