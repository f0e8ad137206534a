//! The sleep engine: the thread reads a byte that the server keeps back until
//! the delay is over (see [`injector_ebpf::Sleep`]). It costs no CPU time but
//! for the end, which is spun, because a woken thread is late by the time that
//! a CPU takes to wake.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_copy_from_user_task, bpf_get_current_task_btf},
    },
};
use injector_ebpf::{
    Control, Counter, MAX_MARGIN_NS, SLEEP_SLOTS, SLEEP_STRIDE, Sleep, margin_class, next_margin,
};

use super::{engine_spin, kfunc};
use crate::{
    atomic,
    count::count,
    maps::{MARGINS, SLEEPERS, SLEEPS, setup},
};

/// Shorter sleeps are not worth the two context switches.
const LEAST_SLEEP_NS: u64 = 20_000;

/// Slots that a thread tries.
const TRIES: u64 = 4;

/// How far above a thread the holder is looked for.
const GENERATIONS: u32 = 16;

/// Whether there is a server. Zero: none was started for this run.
#[inline(always)]
pub fn is_there(control: *const Control) -> bool {
    // SAFETY: a live map value.
    unsafe { (*control).holder_pid != 0 }
}

/// A slot for this thread. Ordinals are dense, so that threads only meet when
/// there are more of them than slots.
#[inline(always)]
pub fn claim(ordinal: u64) -> Option<u32> {
    let mut tried = 0;
    while tried < TRIES {
        let slot = (ordinal + tried) as u32 & (SLEEP_SLOTS - 1);
        if let Some(sleep) = SLEEPS.get_ptr_mut(slot) {
            // SAFETY: a live map value, written atomically.
            unsafe {
                if atomic::fetch_add(&raw mut (*sleep).claims, 1) == 0 {
                    add_sleepers(1);
                    return Some(slot);
                }
                atomic::add(&raw mut (*sleep).claims, u64::MAX);
            }
        }
        tried += 1;
    }
    count(Counter::SleepersFull);
    None
}

/// Gives a slot back.
#[inline(always)]
pub fn release(slot: u32) {
    if let Some(sleep) = SLEEPS.get_ptr_mut(slot) {
        // SAFETY: a live map value, written atomically.
        unsafe { atomic::add(&raw mut (*sleep).claims, u64::MAX) };
        add_sleepers(u64::MAX);
    }
}

/// How many threads have a slot.
#[inline(always)]
pub fn sleepers() -> u64 {
    match SLEEPERS.get_ptr(0) {
        // SAFETY: a live map value.
        Some(count) => unsafe { count.read_volatile() },
        None => 0,
    }
}

/// Modulo 2^64, so that `u64::MAX` is one less.
#[inline(always)]
fn add_sleepers(count: u64) {
    if let Some(sleepers) = SLEEPERS.get_ptr_mut(0) {
        // SAFETY: a live map value, written atomically.
        unsafe { atomic::add(sleepers, count) };
    }
}

/// Sleeps from `now` until `end`. Returns when it was over: earlier than `end`
/// if the sleep was cut short by a signal, the end of the run, or the death of
/// the server.
///
/// The calling program is sleepable.
#[inline(always)]
pub fn until(slot: u32, now: u64, end: u64, control: *const Control) -> u64 {
    let class = margin_class(end.wrapping_sub(now));
    let Some(sleep) = SLEEPS.get_ptr_mut(slot) else {
        return now;
    };
    let Some(margins) = MARGINS.get_ptr_mut(0) else {
        return now;
    };
    // SAFETY: a live map value, and a class is always inside the array. Racing
    // writers lose a step of the estimate.
    let margin = unsafe { (&raw mut (*margins).ns).cast::<u64>().add(class & 7) };
    // SAFETY: as above.
    let early = unsafe { margin.read_volatile() };
    if now + early + LEAST_SLEEP_NS >= end {
        return engine_spin::until(end);
    }
    let answer = end - early;
    wait_for_answer(sleep, slot, answer, control);
    // SAFETY: reads the clock.
    let woke = unsafe { bpf_ktime_get_ns() };
    if woke < answer {
        return woke;
    }
    // SAFETY: as above.
    unsafe { margin.write_volatile(next_margin(early, woke - answer)) };
    // The second condition is always true; it bounds the spin.
    if woke < end && end - woke <= MAX_MARGIN_NS {
        return engine_spin::until(end);
    }
    woke
}

/// Sleeps until `end`, or somewhat longer, and spins nothing. Returns when it
/// was over: earlier if the sleep was cut short.
///
/// The calling program is sleepable.
#[inline(always)]
pub fn roughly_until(slot: u32, end: u64, control: *const Control) -> u64 {
    if let Some(sleep) = SLEEPS.get_ptr_mut(slot) {
        wait_for_answer(sleep, slot, end, control);
    }
    // SAFETY: reads the clock.
    unsafe { bpf_ktime_get_ns() }
}

/// Reads the byte. Whether it could be read says nothing: the server always
/// answers with an error, so that the page stays unread.
#[inline(always)]
fn wait_for_answer(sleep: *mut Sleep, slot: u32, answer: u64, control: *const Control) {
    let holder_is_ancestor = setup!(holder_is_ancestor) != 0;
    // SAFETY: live map values; the task is given back on the only path that has it.
    unsafe {
        (&raw mut (*sleep).answer_ns).write_volatile(answer);
        let address = (*control).holder_address + u64::from(slot) * SLEEP_STRIDE;
        if holder_is_ancestor {
            read_from_ancestor((*control).holder_pid as u32, address);
            return;
        }
        let task = kfunc::task_from_pid((*control).holder_pid as i32);
        if task.is_null() {
            return;
        }
        read_byte(task, address);
        kfunc::task_release(task);
    }
}

/// The same where only ancestors can be found: pointers from task to task are
/// followed in a form that the verifier can check, plain loads at offsets that
/// it knows.
#[inline(always)]
fn read_from_ancestor(pid: u32, address: u64) {
    let (real_parent, tgid) = (setup!(offsets.task_real_parent), setup!(offsets.task_tgid));
    // SAFETY: the kernel catches faults of such loads.
    unsafe {
        let mut task = bpf_get_current_task_btf().cast::<u8>().cast_const();
        let mut level = 0;
        while level < GENERATIONS {
            let parent = task.add(real_parent as usize);
            task = parent.cast::<*const u8>().read_volatile();
            if task.add(tgid as usize).cast::<u32>().read_volatile() == pid {
                read_byte(task.cast_mut().cast(), address);
                return;
            }
            level += 1;
        }
    }
}

#[inline(always)]
fn read_byte(task: *mut task_struct, address: u64) {
    let mut byte = 0u8;
    // SAFETY: the kernel checks the address.
    unsafe {
        bpf_copy_from_user_task(
            (&raw mut byte).cast(),
            1,
            address as *const _,
            task.cast(),
            0,
        );
    }
}
