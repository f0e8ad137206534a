//! Sleeping on the way back to user mode, for hooks that cannot sleep
//! themselves and kernels that refuse the ones that can: the exit hook
//! schedules task work, whose callback is sleepable (Linux 6.18).
//!
//! A long delay is slept in slices, each a callback of its own: while a
//! sleepable program sleeps, no uprobe anywhere can be detached.

use core::ffi::c_void;

use aya_ebpf::{
    btf_maps::Array,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_ktime_get_ns},
    macros::btf_map,
};
use injector_ebpf::{Control, Counter, InFlight, SLEEP_SLOTS, slice_ns};

use super::{engine, engine_sleep, flow, kfunc};
use crate::{
    count::count,
    maps::{CONTROL, IN_FLIGHT},
};

/// A rest of a delay that is not worth a slice of its own, in nanoseconds. Only
/// the last slice is exact, so it has to be longer than a thread can wake late.
const LEAST_REST_NS: u64 = 20_000_000;

/// `struct bpf_task_work` of `include/uapi/linux/bpf.h`, 6.18: the verifier
/// knows it by its name.
#[allow(non_camel_case_types, reason = "the kernel's name")]
#[repr(C, align(8))]
pub struct bpf_task_work {
    opaque: u64,
}

/// A value must not be the special struct itself.
#[repr(C)]
pub struct TaskWork {
    work: bpf_task_work,
}

const TASK_WORKS_LEN: usize = 2 * SLEEP_SLOTS as usize;

/// Two for each slot, because a callback cannot schedule itself again: slices
/// take turns.
#[btf_map]
static TASK_WORKS: Array<TaskWork, TASK_WORKS_LEN> = Array::new();

/// Has the current thread wait for `open.record.asked_ns` on its way back, or
/// spins when that is not possible. True: the callback will finish the send.
#[inline(always)]
pub fn begin(open: &mut InFlight, now: u64, control: *const Control) -> bool {
    if let Some(slot) = engine_sleep::claim(open.record.thread_ordinal) {
        open.slot = slot;
        open.wait_start_ns = now;
        if schedule(slot * 2) {
            return true;
        }
        open.wait_start_ns = 0;
        count(Counter::SleepsRefused);
        engine_sleep::release(slot);
    }
    flow::delivered(open, &engine::spin(open.record.asked_ns, control));
    false
}

/// The thread ends between two slices: the next finds no send of it.
#[inline(always)]
pub fn forsake(open: &InFlight) {
    if open.wait_start_ns != 0 {
        engine_sleep::release(open.slot);
    }
}

#[inline(always)]
fn schedule(key: u32) -> bool {
    let Some(value) = TASK_WORKS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live map value of that map; the current task.
    unsafe {
        let task = bpf_get_current_task_btf();
        let work = (&raw mut (*value).work).cast::<c_void>();
        let map = (&raw const TASK_WORKS).cast_mut().cast::<c_void>();
        kfunc::task_work_schedule(task, work, map, slice) == 0
    }
}

/// One slice, in the context of the delayed thread.
extern "C" fn slice(_map: *mut c_void, key: *mut u32, _value: *mut c_void) -> i64 {
    let id = bpf_get_current_pid_tgid();
    let (Some(open), Some(control)) = (IN_FLIGHT.get_ptr_mut(id), CONTROL.get_ptr(0)) else {
        return 0;
    };
    // SAFETY: a live map value that only this thread uses; the kernel passes
    // the key; the clock is read.
    let (open, key, now) = unsafe { (&mut *open, *key, bpf_ktime_get_ns()) };
    let end = open.wait_start_ns + open.record.asked_ns;
    let slice_end = now + slice_ns(engine_sleep::sleepers());
    let over = if end > slice_end + LEAST_REST_NS {
        let over = engine_sleep::roughly_until(open.slot, slice_end, control);
        if over >= slice_end && schedule(key ^ 1) {
            return 0;
        }
        over
    } else {
        engine_sleep::until(open.slot, now, end, control)
    };
    engine_sleep::release(open.slot);
    let delivered_ns = over.wrapping_sub(open.wait_start_ns);
    flow::delivered(
        open,
        &engine::Waited {
            delivered_ns,
            capped: false,
            shortened: delivered_ns < open.record.asked_ns,
        },
    );
    flow::close(id, open, control, true);
    0
}
