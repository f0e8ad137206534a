//! Who is never acted on, whatever the rule says.
//!
//! Softirq needs no test: the send functions take the socket lock and may
//! sleep, so the kernel never enters them from there; senders inside the
//! kernel are kernel threads or use sockets without a file.

use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_get_current_task_btf, generated::bpf_task_pt_regs,
};
use injector_ebpf::{Guard, Hook, Rule, flags};

use super::socket::Socket;
use crate::{maps::setup, memory::member};

/// `PF_KTHREAD`, `include/linux/sched.h`, the same in 5.10 to 7.3.
const PF_KTHREAD: u32 = 0x0020_0000;
/// `PF_IO_WORKER`: `io_uring` workers and SQPOLL threads, since 5.12.
const PF_IO_WORKER: u32 = 0x0000_0010;
/// `PF_USER_WORKER`: the same and vhost workers, since 6.4.
const PF_USER_WORKER: u32 = 0x0000_4000;
/// `__NR_io_uring_enter`, the same on every architecture.
const NR_IO_URING_ENTER: u32 = 426;

/// The guard that forbids acting on this sender, or [`Guard::None`].
#[inline(always)]
pub fn check(hook: Hook, socket: &Socket, rule: &Rule, record_flags: u16) -> Guard {
    // SAFETY: reads the current task's address.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let task_flags: u32 = member(task, setup!(offsets.task_flags));
    if task_flags & PF_KTHREAD != 0 {
        return Guard::KernelThread;
    }
    if task_flags & (PF_IO_WORKER | PF_USER_WORKER) != 0 {
        return Guard::IoWorker;
    }
    if socket.file.is_null() {
        return Guard::KernelSocket;
    }
    // The tracepoint hook knows its syscall.
    if hook as u8 != Hook::Tracepoint as u8 && current_syscall() == NR_IO_URING_ENTER {
        return Guard::IoUring;
    }
    if rule.blocking_only != 0 && record_flags & flags::NON_BLOCKING != 0 {
        return Guard::NonBlocking;
    }
    Guard::None
}

/// Whether the current thread sends for `io_uring`, inline or as a worker.
#[inline(always)]
pub fn is_io_uring() -> bool {
    // SAFETY: reads the current task's address.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let task_flags: u32 = member(task, setup!(offsets.task_flags));
    task_flags & PF_IO_WORKER != 0 || current_syscall() == NR_IO_URING_ENTER
}

/// The syscall that the current thread is in. `io_uring` sends inline from its
/// own syscall, where a delay would hold up unrelated requests.
#[inline(always)]
fn current_syscall() -> u32 {
    // SAFETY: the helper gets the task that the other helper returned.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    member(registers, setup!(offsets.pt_regs_syscall))
}
