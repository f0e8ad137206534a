//! Hook: `sys_enter_*` and `sys_exit_*` of the send family, for kernels without
//! kprobes or with trampolines locked down.
//!
//! A tracepoint sees a file descriptor, so the socket is found through the
//! process's file table. `io_uring` makes no send syscalls: where the kernel
//! has the `sock_send_length` tracepoint (6.4), its inet sends are at least
//! reported when they are over.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_task,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use injector_ebpf::{Hook, Operation, flags};

use super::{
    engine::Sleeps,
    flow::{self, Call, Sender},
    socket::Name,
};
use crate::{
    maps::setup,
    memory::{Space, member, pointer, read},
};

/// Fields of every `sys_enter_*` record: `common_*` (8 bytes), the syscall
/// number, then one 8-byte slot per argument
/// (`/sys/kernel/tracing/events/syscalls/*/format`).
const FIRST_ARGUMENT: usize = 16;
/// The result in every `sys_exit_*` record.
const RESULT: usize = 16;

/// `S_IFMT` and `S_IFSOCK`, user ABI.
const FILE_TYPE: u16 = 0o170_000;
const SOCKET_TYPE: u16 = 0o140_000;

/// `struct msghdr` of the user ABI, 64-bit.
const MSGHDR_NAMELEN: usize = 8;
const MSGHDR_IOV: usize = 16;
const MSGHDR_IOVLEN: usize = 24;
/// Vectors that are summed up; a longer array leaves the size unknown.
const MAX_VECTORS: u64 = 8;

/// `sys_exit_sendmmsg` returns messages, not bytes.
const SENDMMSG: u8 = 4;

macro_rules! argument {
    ($ctx:expr, $n:literal) => {
        // SAFETY: inside the record of a syscall with more than `$n` arguments.
        unsafe {
            *$ctx
                .as_ptr()
                .cast::<u8>()
                .add(FIRST_ARGUMENT + 8 * $n)
                .cast::<u64>()
        }
    };
}

/// `write(fd, buf, count)`
#[tracepoint]
pub fn enter_write(ctx: TracePointContext) -> u32 {
    enter(argument!(ctx, 0), call(0, argument!(ctx, 2)))
}

/// `writev(fd, vec, vlen)`
#[tracepoint]
pub fn enter_writev(ctx: TracePointContext) -> u32 {
    let Some(sender) = flow::sender() else {
        return 0;
    };
    let mut call = call(1, 0);
    vectors(&mut call, argument!(ctx, 1), argument!(ctx, 2));
    enter_sender(&sender, argument!(ctx, 0), &call)
}

/// `sendto(fd, buff, len, flags, addr, addr_len)`
#[tracepoint]
pub fn enter_sendto(ctx: TracePointContext) -> u32 {
    let mut call = call(2, argument!(ctx, 2));
    call.message_flags = argument!(ctx, 3) as u32;
    call.name = Name {
        address: argument!(ctx, 4) as *const u8,
        length: argument!(ctx, 5) as u32,
        space: Space::User,
    };
    enter(argument!(ctx, 0), call)
}

/// `sendmsg(fd, msg, flags)`
#[tracepoint]
pub fn enter_sendmsg(ctx: TracePointContext) -> u32 {
    let Some(sender) = flow::sender() else {
        return 0;
    };
    let mut call = call(3, 0);
    call.message_flags = argument!(ctx, 2) as u32;
    message(&mut call, argument!(ctx, 1) as *const u8);
    enter_sender(&sender, argument!(ctx, 0), &call)
}

/// `sendmmsg(fd, mmsg, vlen, flags)`: one record for the batch.
#[tracepoint]
pub fn enter_sendmmsg(ctx: TracePointContext) -> u32 {
    let Some(sender) = flow::sender() else {
        return 0;
    };
    let mut call = call(SENDMMSG, 0);
    call.message_flags = argument!(ctx, 3) as u32;
    message(&mut call, argument!(ctx, 1) as *const u8);
    call.bytes = 0;
    call.flags = flags::BATCH | flags::BYTES_UNKNOWN;
    enter_sender(&sender, argument!(ctx, 0), &call)
}

/// `sendfile64(out_fd, in_fd, offset, count)`
#[tracepoint]
pub fn enter_sendfile64(ctx: TracePointContext) -> u32 {
    enter(argument!(ctx, 0), call(5, argument!(ctx, 3)))
}

/// `splice(fd_in, off_in, fd_out, off_out, len, flags)`
#[tracepoint]
pub fn enter_splice(ctx: TracePointContext) -> u32 {
    enter(argument!(ctx, 2), call(6, argument!(ctx, 4)))
}

/// The return of any of them.
#[tracepoint]
pub fn exit_send(ctx: TracePointContext) -> u32 {
    flow::exit(result(&ctx), false);
    0
}

/// The same, and lets a thread sleep on its way back.
#[tracepoint]
pub fn exit_send_sleep(ctx: TracePointContext) -> u32 {
    flow::exit(result(&ctx), true);
    0
}

/// What the syscall returned.
#[inline(always)]
fn result(ctx: &TracePointContext) -> i64 {
    // SAFETY: inside the record of every sys_exit event.
    unsafe { *ctx.as_ptr().cast::<u8>().add(RESULT).cast::<i64>() }
}

/// `sock_send_length(struct sock *sk, int ret, int flags)`
/// [include/trace/events/sock.h], since 6.4; checked in 6.12, 6.18, 7.3.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    let Some(sender) = flow::sender() else {
        return 0;
    };
    let mut call = call(0, 0);
    call.hook = Hook::SockSendLength;
    call.flags = flags::NO_START | flags::BYTES_UNKNOWN;
    flow::seen_at_end(&sender, ctx.arg(0), &call, i64::from(ctx.arg::<i32>(1)));
    0
}

#[inline(always)]
fn call(place: u8, bytes: u64) -> Call {
    Call {
        hook: Hook::Tracepoint,
        place,
        bytes,
        message_flags: 0,
        name: Name::NONE,
        flags: 0,
        sleeps: Sleeps::AtReturn,
        operation: Operation::Send,
    }
}

#[inline(always)]
fn enter(descriptor: u64, call: Call) -> u32 {
    let Some(sender) = flow::sender() else {
        return 0;
    };
    enter_sender(&sender, descriptor, &call)
}

#[inline(always)]
fn enter_sender(sender: &Sender, descriptor: u64, call: &Call) -> u32 {
    if let Some(sock) = sock(descriptor as u32) {
        flow::enter(sender, sock, call);
    }
    0
}

/// The `struct sock` behind a descriptor of the current process.
#[inline(always)]
fn sock(descriptor: u32) -> Option<*const u8> {
    // SAFETY: reads the current task's address.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let table = pointer(
        pointer(task, setup!(offsets.task_files)),
        setup!(offsets.files_fdt),
    );
    if descriptor >= member::<u32>(table, setup!(offsets.fdtable_max_fds)) {
        return None;
    }
    let files = pointer(table, setup!(offsets.fdtable_fd));
    let file = pointer(files, descriptor.wrapping_mul(8));
    let inode = pointer(file, setup!(offsets.file_f_inode));
    if member::<u16>(inode, setup!(offsets.inode_i_mode)) & FILE_TYPE != SOCKET_TYPE {
        return None;
    }
    let socket = pointer(file, setup!(offsets.file_private_data));
    let sock = pointer(socket, setup!(offsets.socket_sk));
    (!sock.is_null()).then_some(sock)
}

/// Address and size of a `struct msghdr` in user memory.
#[inline(always)]
fn message(call: &mut Call, message: *const u8) {
    call.name = Name {
        address: read::<u64>(message, Space::User) as *const u8,
        length: read(message.wrapping_add(MSGHDR_NAMELEN), Space::User),
        space: Space::User,
    };
    vectors(
        call,
        read(message.wrapping_add(MSGHDR_IOV), Space::User),
        read(message.wrapping_add(MSGHDR_IOVLEN), Space::User),
    );
}

/// Sums the sizes of an array of `struct iovec`.
#[inline(always)]
fn vectors(call: &mut Call, array: u64, count: u64) {
    if count > MAX_VECTORS {
        call.flags |= flags::BYTES_UNKNOWN;
        return;
    }
    let mut index = 0;
    while index < MAX_VECTORS {
        if index < count {
            let length = array.wrapping_add(index * 16 + 8) as *const u8;
            call.bytes = call.bytes.wrapping_add(read(length, Space::User));
        }
        index += 1;
    }
}
