//! Processes that start, change and end.
//!
//! | tracepoint | arguments | checked in |
//! |---|---|---|
//! | `sched_process_fork` | `(struct task_struct *parent, struct task_struct *child)` | 6.1, 6.12, 6.18, 7.3 |
//! | `sched_process_exec` | `(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)` | 6.1, 6.12, 6.18, 7.3 |
//! | `sched_process_exit` | `(struct task_struct *p, …)` | 6.1, 6.12, 6.18, 7.3 |

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use injector_ebpf::{Counter, LifecycleEvent, LifecycleKind, target_flags};

use crate::{
    count::count,
    maps::{IN_FLIGHT, TARGETS, THREADS, setup},
    memory::{member, pointer},
    ring, send,
};

/// A child of a target that hands its rule down is a target before it runs.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(target) = TARGETS.get_ptr(parent) else {
        return 0;
    };
    let child: *const u8 = ctx.arg(1);
    let tgid: u32 = member(child, setup!(offsets.task_tgid));
    let thread: u32 = member(child, setup!(offsets.task_pid));
    // SAFETY: a live map value.
    let target = unsafe { *target };
    // A new thread has the tgid of its process and needs no entry.
    if tgid != thread || target.flags & target_flags::INHERIT == 0 {
        return 0;
    }
    if TARGETS.insert(tgid, target, 0).is_err() {
        count(Counter::TargetsFull);
        warn!(
            &ctx,
            "the target table is full (--max-targets): process {}, a child of {}, is not followed",
            tgid,
            parent
        );
        return 0;
    }
    ring::lifecycle(&event(LifecycleKind::Fork, tgid, parent));
    0
}

/// A new program: userspace decides whether it matches.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(_ctx: BtfTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    ring::lifecycle(&event(LifecycleKind::Exec, tgid, 0));
    0
}

/// The last thread of a target takes its entry along: the id can be reused.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    if TARGETS.get_ptr(tgid).is_none() {
        return 0;
    }
    let _ = THREADS.remove(id as u32);
    if let Some(open) = IN_FLIGHT.get_ptr(id) {
        // SAFETY: a live map value that only this thread uses.
        unsafe { send::task_work::forsake(&*open) };
        let _ = IN_FLIGHT.remove(id);
        // A thread that is killed in a send still returns from it first.
        count(Counter::ReturnsMissed);
        send::hint::close(id);
    }
    let task: *const u8 = ctx.arg(0);
    let signal = pointer(task, setup!(offsets.task_signal));
    // `signal->live` counts the threads that have not begun to exit; do_exit
    // (kernel/exit.c) lowers it before this tracepoint.
    if member::<u32>(signal, setup!(offsets.signal_live)) == 0 {
        let _ = TARGETS.remove(tgid);
        ring::lifecycle(&event(LifecycleKind::Exit, tgid, 0));
    }
    0
}

#[inline(always)]
fn event(kind: LifecycleKind, tgid: u32, parent: u32) -> LifecycleEvent {
    LifecycleEvent {
        tgid,
        parent,
        kind: kind as u8,
        reserved: [0; 7],
    }
}
