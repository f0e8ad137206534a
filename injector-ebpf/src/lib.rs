//! The ABI of injector: every record, map key and constant that crosses the
//! boundary between the kernel programs and the userspace side, and the pure
//! decisions that both sides must take alike.
//!
//! All types are `#[repr(C)]` without padding, so that a value can be copied
//! to and from kernel memory as plain bytes. Times are nanoseconds of
//! `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`), addresses are in network order.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "a call inside a BPF program costs stack that it does not have"
)]

#[macro_use]
mod numbered;

mod counters;
#[path = "send/decide.rs"]
pub mod decide;
mod functions;
#[path = "go/abi.rs"]
pub mod go;
mod in_flight;
mod record;
mod rule;
mod sleep;

pub use counters::{COUNTERS, Counter, Stats};
pub use functions::{Place, SEND_FUNCTIONS, SEND_SYSCALLS, SendFunction, SendSyscall, Shape};
pub use in_flight::InFlight;
pub use record::{
    COMM_LEN, ENDPOINT_LEN, Endpoint, Guard, Hook, LifecycleEvent, LifecycleKind, Operation,
    Protocol, SEND_FRAMES, SendRecord, SendStack, Verdict, flags,
};
pub use rule::{
    BUDGETS, Budget, Control, KNOTS, MAX_RULES, Mode, NO_DELAY, OverAction, QuantileTable, Rule,
    TABLES, Target, V4_MAPPED_PREFIX, target_flags,
};
pub use sleep::{
    KFUNCS, Kfunc, MARGIN_CLASSES, MAX_MARGIN_NS, Margins, SLEEP_SLOTS, SLEEP_STRIDE, Sleep,
    TASK_FROM_PID, TASK_RELEASE, TASK_WORK_SCHEDULE, margin_class, next_margin, slice_ns,
};

/// Offsets of kernel struct members, in bytes, as the running kernel's BTF
/// gives them. Userspace fills the copy in `.rodata` before the programs are
/// loaded; nothing here is ever a constant of ours.
///
/// A member that this kernel does not have is [`Offsets::ABSENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named struct_member")]
pub struct Offsets {
    pub task_flags: u32,
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_real_parent: u32,
    pub task_signal: u32,
    pub task_files: u32,
    pub signal_live: u32,
    pub files_fdt: u32,
    pub fdtable_fd: u32,
    pub fdtable_max_fds: u32,
    pub file_f_inode: u32,
    pub file_private_data: u32,
    pub file_f_flags: u32,
    pub inode_i_mode: u32,
    pub socket_sk: u32,
    pub socket_file: u32,
    pub sock_sk_socket: u32,
    pub sock_sk_protocol: u32,
    pub sock_sk_type: u32,
    pub sock_family: u32,
    pub sock_num: u32,
    pub sock_dport: u32,
    pub sock_daddr: u32,
    pub sock_rcv_saddr: u32,
    pub sock_v6_daddr: u32,
    pub sock_v6_rcv_saddr: u32,
    pub unix_peer: u32,
    pub unix_addr: u32,
    pub unix_address_len: u32,
    pub unix_address_name: u32,
    pub msghdr_msg_name: u32,
    pub msghdr_msg_namelen: u32,
    pub msghdr_msg_flags: u32,
    pub pt_regs_syscall: u32,
    pub pt_regs_goroutine: u32,
    pub pt_regs_frame: u32,
    pub pt_regs_instruction: u32,
}

impl Offsets {
    /// The running kernel's BTF has no such member.
    pub const ABSENT: u32 = u32::MAX;

    /// All members absent: what the programs are compiled with.
    pub const NONE: Self = Self {
        task_flags: Self::ABSENT,
        task_pid: Self::ABSENT,
        task_tgid: Self::ABSENT,
        task_real_parent: Self::ABSENT,
        task_signal: Self::ABSENT,
        task_files: Self::ABSENT,
        signal_live: Self::ABSENT,
        files_fdt: Self::ABSENT,
        fdtable_fd: Self::ABSENT,
        fdtable_max_fds: Self::ABSENT,
        file_f_inode: Self::ABSENT,
        file_private_data: Self::ABSENT,
        file_f_flags: Self::ABSENT,
        inode_i_mode: Self::ABSENT,
        socket_sk: Self::ABSENT,
        socket_file: Self::ABSENT,
        sock_sk_socket: Self::ABSENT,
        sock_sk_protocol: Self::ABSENT,
        sock_sk_type: Self::ABSENT,
        sock_family: Self::ABSENT,
        sock_num: Self::ABSENT,
        sock_dport: Self::ABSENT,
        sock_daddr: Self::ABSENT,
        sock_rcv_saddr: Self::ABSENT,
        sock_v6_daddr: Self::ABSENT,
        sock_v6_rcv_saddr: Self::ABSENT,
        unix_peer: Self::ABSENT,
        unix_addr: Self::ABSENT,
        unix_address_len: Self::ABSENT,
        unix_address_name: Self::ABSENT,
        msghdr_msg_name: Self::ABSENT,
        msghdr_msg_namelen: Self::ABSENT,
        msghdr_msg_flags: Self::ABSENT,
        pt_regs_syscall: Self::ABSENT,
        pt_regs_goroutine: Self::ABSENT,
        pt_regs_frame: Self::ABSENT,
        pt_regs_instruction: Self::ABSENT,
    };
}

/// Kernel-wide facts fixed at load time, in `.rodata`, so that the verifier
/// removes the branches that this run does not use.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Struct member offsets of the running kernel.
    pub offsets: Offsets,
    /// The daemon's own process id: never a target.
    pub own_tgid: u32,
    /// 1: the holder is an ancestor of the threads that sleep, and found as such,
    /// because this kernel has no way from a process id to a task.
    pub holder_is_ancestor: u32,
}

#[cfg(feature = "user")]
mod user {
    macro_rules! pod {
        ($($t:ty),+) => {
            $(
                // SAFETY: `#[repr(C)]`, plain integers, no padding (asserted in
                // `record::tests`), every bit pattern is valid.
                unsafe impl aya::Pod for $t {}
            )+
        };
    }
    pod!(
        crate::Setup,
        crate::Rule,
        crate::QuantileTable,
        crate::Control,
        crate::Budget,
        crate::InFlight,
        crate::Target,
        crate::Sleep,
        crate::Margins,
        crate::Stats,
        crate::go::Gate,
        crate::go::Hold,
        crate::go::Layout,
        crate::go::SiteStats,
        crate::go::Stats,
        crate::go::Watch
    );
}
