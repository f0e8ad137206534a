//! Goroutines that could run and have no CPU, because others have it or a quota is
//! used up: as long as that lasts, who waits for their locks waits for a CPU.
//!
//! Threads that wake up do not count. One that slept in a system call is still in
//! it, and one that slept for want of work runs no goroutine.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_ktime_get_ns,
        bpf_probe_read_kernel, generated::bpf_task_pt_regs,
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use injector_ebpf::go::{Counter, Event, EventRecord, LEAST_NO_CPU_NS};

use crate::{
    count::count,
    goroutine::Goroutine,
    maps::{LAYOUTS, NO_CPU, TARGETS, Waiting},
    registers, ring,
};

/// Another thread gets this CPU. Arguments (include/trace/events/sched.h, Linux 6.6
/// to 6.18): whether the current one was preempted, the current one, the next one,
/// the state of the current one.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn go_switch(ctx: RawTracePointContext) -> i32 {
    let preempted: u64 = ctx.arg(0);
    let current: u64 = ctx.arg(1);
    let next: u64 = ctx.arg(2);
    let state: u32 = ctx.arg(3);
    // A `bool`, whose other bits are anything. State 0 is TASK_RUNNING.
    if preempted & 0xff != 0 || state == 0 {
        loses(current);
    }
    has_again(next);
    0
}

#[inline(always)]
fn loses(task: u64) {
    let process = bpf_get_current_pid_tgid();
    // SAFETY: entries are written by userspace only, before there are any events.
    let Some(target) = (unsafe { TARGETS.get(&((process >> 32) as u32)) }) else {
        return;
    };
    let Some(layout) = LAYOUTS.get(*target) else {
        return;
    };
    // SAFETY: the helpers return the registers of the current task, which are there
    // as long as it is.
    let register = unsafe {
        let registers = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
        bpf_probe_read_kernel(registers::place_of_goroutine(registers))
    };
    let Some(goroutine) = Goroutine::number(register.unwrap_or(0), layout) else {
        return;
    };
    let waiting = Waiting {
        // SAFETY: a helper without preconditions.
        since_ns: unsafe { bpf_ktime_get_ns() },
        goroutine,
        tid: process as u32,
        target: *target,
    };
    if NO_CPU.insert(&task, &waiting, 0).is_err() {
        count(Counter::ThreadsFull);
    }
}

#[inline(always)]
fn has_again(task: u64) {
    // SAFETY: only the scheduler that moves this very thread writes its entry.
    let Some(waiting) = (unsafe { NO_CPU.get(&task) }).copied() else {
        return;
    };
    let _ = NO_CPU.remove(&task);
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let length = now.wrapping_sub(waiting.since_ns);
    if length >= LEAST_NO_CPU_NS {
        ring::event(&EventRecord {
            time_ns: now,
            goroutine_id: waiting.goroutine,
            iterator: length,
            tid: waiting.tid,
            kind: Event::NoCpu as u8,
            target: waiting.target as u16,
            ..EventRecord::default()
        });
    }
}
