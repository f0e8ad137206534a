//! The program ends itself. What is known is frozen at this instant, in the
//! kernel: read from outside some microseconds later, goroutines that still run
//! would have written over it.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_attach_cookie, bpf_ktime_get_ns,
        generated::{bpf_probe_read_kernel, bpf_send_signal},
    },
    macros::uprobe,
    programs::ProbeContext,
};
use injector_ebpf::go::{
    Cookie, Counter, EventRecord, FatalRecord, FrozenMap, Layout, Origin, RECENT_MAPS,
    RECENT_WRITES, WRITERS, fatal_flags, frozen_flags,
};

use crate::{
    atomic,
    count::{count, hit},
    goroutine::{self, Goroutine},
    maps::{
        EMPTY, FATALS, GOROUTINES, GoroutineKey, HOLD_ARMED, HOLD_BELL, HOLDS, MAPS, MapKey, RECENT,
    },
    registers::Registers,
    stack, user,
};

/// Stops a process. Its number is the same on amd64 and arm64
/// (include/uapi/asm-generic/signal.h).
const SIGSTOP: u32 = 19;

/// `runtime.fatal(s string)` or `runtime.throw(s string)`.
#[uprobe]
pub fn go_fatal(ctx: ProbeContext) -> u32 {
    ends::<true>(&ctx)
}

/// The same for kernels whose verifier gives up on it (Linux 6.12): who made the
/// goroutines that wrote the maps is not told.
#[uprobe]
pub fn go_fatal_lean(ctx: ProbeContext) -> u32 {
    ends::<false>(&ctx)
}

#[inline(always)]
fn ends<const ORIGINS: bool>(ctx: &ProbeContext) -> u32 {
    // SAFETY: helpers without preconditions, on the program's own context.
    let (start, cookie) = unsafe { (bpf_ktime_get_ns(), bpf_get_attach_cookie(ctx.as_ptr())) };
    let cookie = Cookie::decode(cookie);
    let Some(layout) = goroutine::layout(cookie.target) else {
        return 0;
    };
    let registers = Registers::of(ctx);
    if cookie.repeats && registers.stack_grows() {
        return 0;
    }
    // The other threads come to a stop while what is known is frozen.
    let held = hold(cookie.target, start);
    let Some(goroutine) = Goroutine::current(&registers, layout) else {
        count(Counter::Unreadable);
        return 0;
    };
    let Some(mut entry) = FATALS.reserve::<FatalRecord>(0) else {
        count(Counter::FatalsDropped);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reserved memory is of this size, and every byte is written.
    unsafe {
        freeze::<ORIGINS>(record, &registers, cookie, layout, &goroutine);
        (*record).time_ns = start;
        (*record).flags |= held;
    }
    entry.submit(0);
    hit(cookie.site, start);
    0
}

/// Stops the process, if that was asked for and was not done before. Who
/// waits for it is told first: without them nothing is stopped.
#[inline(always)]
fn hold(target: u16, now: u64) -> u8 {
    let target = u32::from(target);
    if HOLD_ARMED.get(target).is_none_or(|armed| *armed == 0) {
        return 0;
    }
    let Some(hold) = HOLDS.get_ptr_mut(target) else {
        return 0;
    };
    let Some(mut bell) = HOLD_BELL.reserve::<u64>(0) else {
        return fatal_flags::NOT_HELD;
    };
    // SAFETY: a live map value.
    let first = unsafe { atomic::fetch_add(&raw mut (*hold).claims, 1) } == 0;
    // SAFETY: the helper takes any number; SIGSTOP is one of a signal.
    if !first || unsafe { bpf_send_signal(SIGSTOP) } != 0 {
        bell.discard(0);
        return if first { fatal_flags::NOT_HELD } else { 0 };
    }
    // SAFETY: a live map value.
    unsafe { (&raw mut (*hold).since_ns).write_volatile(now) };
    bell.write(now);
    bell.submit(0);
    fatal_flags::HELD
}

/// # Safety
///
/// `record` can be written.
#[inline(always)]
unsafe fn freeze<const ORIGINS: bool>(
    record: *mut FatalRecord,
    registers: &Registers,
    cookie: Cookie,
    layout: &Layout,
    goroutine: &Goroutine,
) {
    // SAFETY: the caller's; sources are live map values.
    unsafe {
        copy(record, EMPTY.get_ptr(0));
        let key = GoroutineKey {
            id: goroutine.id,
            tgid: u64::from(goroutine.tgid),
        };
        let mut flags = 0;
        let maps = (&raw mut (*record).maps).cast::<FrozenMap>();
        if copy(&raw mut (*record).last, GOROUTINES.get_ptr(&key)) {
            flags |= fatal_flags::LAST;
            (*maps).address = (*record).last.subject;
            let iterator = (*record).last.iterator;
            if iterator != 0 && user::copy(&raw mut (*record).iterator, iterator) {
                flags |= fatal_flags::ITERATOR;
            }
        }
        choose(maps, cookie.target);
        for index in 0..=RECENT_MAPS {
            freeze_map::<ORIGINS>(maps.add(index), goroutine.tgid, layout);
        }
        // `g.stack.hi`, the second word of `g` in all versions (runtime/runtime2.go).
        let end: u64 = user::read(goroutine.address + 8).unwrap_or(0);
        let length = end.saturating_sub(registers.frame);
        user::copy_some(&raw mut (*record).stack, registers.frame, length);
        (*record).goroutine_id = goroutine.id;
        (*record).goroutine = goroutine.address;
        (*record).origin = goroutine::origin(goroutine.address, goroutine.id, layout);
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

/// Puts the addresses of the maps that were written last behind the first.
///
/// # Safety
///
/// There are `1 + RECENT_MAPS` of `maps`, and they can be written.
#[inline(always)]
unsafe fn choose(maps: *mut FrozenMap, target: u16) {
    let Some(recent) = RECENT.get_ptr(u32::from(target)) else {
        return;
    };
    // SAFETY: a live map value; indices are below the arrays' lengths.
    unsafe {
        let written = (&raw const (*recent).maps).cast::<u64>();
        let count = (&raw const (*recent).count).read_volatile();
        let mut chosen = 0;
        for back in 1..=RECENT_WRITES as u64 {
            let index = count.wrapping_sub(back) as usize % RECENT_WRITES;
            let address = written.add(index).read_volatile();
            // Without branches, whose number the verifier would multiply.
            let mut new = is_not_zero(address);
            for other in 0..=RECENT_MAPS {
                new &= is_not_zero((*maps.add(other)).address ^ address);
            }
            if new != 0 {
                chosen += 1;
                (*maps.add(chosen & RECENT_MAPS)).address = address;
                if chosen >= RECENT_MAPS {
                    break;
                }
            }
        }
    }
}

/// 1 for all but 0.
#[inline(always)]
fn is_not_zero(value: u64) -> u64 {
    let mut negative = value.wrapping_neg();
    // The compiler would make a branch of it.
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(reg) negative, options(pure, nomem, nostack)) };
    (value | negative) >> 63
}

/// # Safety
///
/// `map` can be written.
#[inline(always)]
unsafe fn freeze_map<const ORIGINS: bool>(map: *mut FrozenMap, tgid: u32, layout: &Layout) {
    // SAFETY: the caller's; sources are live map values; indices are below the
    // arrays' lengths.
    unsafe {
        let address = (*map).address;
        if address == 0 {
            return;
        }
        // The header first: what is in it changes fastest.
        if user::copy(&raw mut (*map).header, address) {
            (*map).flags |= frozen_flags::HEADER;
        }
        let key = MapKey {
            address,
            tgid: u64::from(tgid),
        };
        if !copy(&raw mut (*map).history, MAPS.get_ptr(&key)) {
            return;
        }
        (*map).flags |= frozen_flags::HISTORY;
        if !ORIGINS {
            return;
        }
        for slot in 0..WRITERS {
            let turn = (&raw const (*map).history.turns)
                .cast::<u64>()
                .add(slot)
                .read();
            let place = slot * 2 + (turn as usize & 1);
            let write = (&raw const (*map).history.writes)
                .cast::<EventRecord>()
                .add(place);
            let origin = goroutine::origin((*write).goroutine, (*write).goroutine_id, layout);
            (&raw mut (*map).origins)
                .cast::<Origin>()
                .add(slot)
                .write(origin);
        }
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
