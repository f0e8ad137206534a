//! The program ends itself. What is known is frozen at this instant, in the
//! kernel: read from outside some microseconds later, goroutines that still run
//! would have written over it.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    macros::uprobe,
    programs::ProbeContext,
};
use injector_ebpf::go::{Cookie, Counter, FatalRecord, fatal_flags};

use crate::{
    count::{count, hit},
    goroutine::{self, Goroutine},
    maps::{EMPTY, FATALS, GOROUTINES, GoroutineKey, MAPS, MapKey},
    registers::Registers,
    stack, user,
};

/// `runtime.fatal(s string)` or `runtime.throw(s string)`.
#[uprobe]
pub fn go_fatal(ctx: ProbeContext) -> u32 {
    // SAFETY: helpers without preconditions, on the program's own context.
    let (start, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_attach_cookie(ctx.as_ptr())) };
    let cookie = Cookie::decode(cookie);
    let Some(layout) = goroutine::layout(cookie.target) else {
        return 0;
    };
    let registers = Registers::of(&ctx);
    let Some(goroutine) = Goroutine::current(&registers, layout) else {
        count(Counter::Unreadable);
        return 0;
    };
    let Some(mut entry) = FATALS.reserve::<FatalRecord>(0) else {
        count(Counter::FatalsDropped);
        return 0;
    };
    // SAFETY: the reserved memory is of this size, and every byte is written.
    unsafe { freeze(entry.as_mut_ptr(), &registers, cookie, &goroutine, start) };
    entry.submit(0);
    hit(cookie.site, start);
    0
}

/// # Safety
///
/// `record` can be written.
#[inline(always)]
unsafe fn freeze(
    record: *mut FatalRecord,
    registers: &Registers,
    cookie: Cookie,
    goroutine: &Goroutine,
    now: u64,
) {
    // SAFETY: the caller's; sources are live map values.
    unsafe {
        copy(record, EMPTY.get_ptr(0));
        let key = GoroutineKey {
            id: goroutine.id,
            tgid: u64::from(goroutine.tgid),
        };
        let mut flags = 0;
        if copy(&raw mut (*record).last, GOROUTINES.get_ptr(&key)) {
            flags |= fatal_flags::LAST;
            let key = MapKey {
                address: (*record).last.subject,
                tgid: u64::from(goroutine.tgid),
            };
            if copy(&raw mut (*record).history, MAPS.get_ptr(&key)) {
                flags |= fatal_flags::HISTORY;
            }
            if user::copy(&raw mut (*record).map, key.address) {
                flags |= fatal_flags::MAP;
            }
            let iterator = (*record).last.iterator;
            if iterator != 0 && user::copy(&raw mut (*record).iterator, iterator) {
                flags |= fatal_flags::ITERATOR;
            }
        }
        (*record).time_ns = now;
        (*record).goroutine_id = goroutine.id;
        (*record).goroutine = goroutine.address;
        (*record).tgid = goroutine.tgid;
        (*record).tid = goroutine.tid;
        (*record).site = cookie.site;
        (*record).target = cookie.target;
        (*record).kind = cookie.kind;
        (*record).flags = flags;
        let (text, length) = (registers.argument(0), registers.argument(1));
        (*record).message_length = length;
        user::copy_some(&raw mut (*record).message, text, length);
        (*record).depth = stack::walk(&raw mut (*record).frames, registers, cookie.at_entry);
    }
}

/// Copies a map's value, if there is one.
///
/// # Safety
///
/// `to` can be written, `from` is a live map value.
#[inline(always)]
unsafe fn copy<T>(to: *mut T, from: Option<*const T>) -> bool {
    let Some(from) = from else {
        return false;
    };
    // A call for what would be hundreds of instructions.
    // SAFETY: the caller's.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from.cast()) == 0 }
}
