//! Hooks: the BPF LSM hooks of sockets, the only places where a call can be
//! made to fail, and where a thread can sleep before it.
//!
//! Each exists twice, because only sleepable programs may sleep and older
//! kernels lack what those call. Prototypes [security/security.c], checked in
//! 6.1, 6.12, 6.18, 7.3; the last argument of each is what the program before
//! it answered:
//!
//! - `socket_sendmsg(struct socket *sock, struct msghdr *msg, int size)`;
//!   `sendfile` and `splice` pass through it from 6.5 on
//! - `socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)`
//! - `socket_accept(struct socket *sock, struct socket *newsock)`
//! - `socket_recvmsg(struct socket *sock, struct msghdr *msg, int size, int flags)`

use core::arch::asm;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use injector_ebpf::{Hook, Operation, flags};

use super::{
    engine::Sleeps,
    flow::{self, Call},
    function,
    socket::Name,
};
use crate::{
    maps::setup,
    memory::{Space, pointer},
};

/// `MSG_DONTWAIT` and the other flags of `recvmsg` are its fourth argument.
const RECV_FLAGS: usize = 3;

/// Decides and acts; the function hook that follows completes the record.
#[lsm(hook = "socket_sendmsg")]
pub fn lsm_socket_sendmsg(ctx: LsmContext) -> i32 {
    sendmsg(&ctx, Sleeps::Never)
}

/// The same, and may sleep.
#[lsm(hook = "socket_sendmsg", sleepable)]
pub fn lsm_s_socket_sendmsg(ctx: LsmContext) -> i32 {
    sendmsg(&ctx, Sleeps::Here)
}

/// Decides, acts and reports.
#[lsm(hook = "socket_connect")]
pub fn lsm_socket_connect(ctx: LsmContext) -> i32 {
    connect(&ctx, Sleeps::Never)
}

/// The same, and may sleep.
#[lsm(hook = "socket_connect", sleepable)]
pub fn lsm_s_socket_connect(ctx: LsmContext) -> i32 {
    connect(&ctx, Sleeps::Here)
}

/// Decides, acts and reports.
#[lsm(hook = "socket_accept")]
pub fn lsm_socket_accept(ctx: LsmContext) -> i32 {
    accept(&ctx, Sleeps::Never)
}

/// The same, and may sleep.
#[lsm(hook = "socket_accept", sleepable)]
pub fn lsm_s_socket_accept(ctx: LsmContext) -> i32 {
    accept(&ctx, Sleeps::Here)
}

/// Decides, acts and reports.
#[lsm(hook = "socket_recvmsg")]
pub fn lsm_socket_recvmsg(ctx: LsmContext) -> i32 {
    recvmsg(&ctx, Sleeps::Never)
}

/// The same, and may sleep.
#[lsm(hook = "socket_recvmsg", sleepable)]
pub fn lsm_s_socket_recvmsg(ctx: LsmContext) -> i32 {
    recvmsg(&ctx, Sleeps::Here)
}

#[inline(always)]
fn sendmsg(ctx: &LsmContext, sleeps: Sleeps) -> i32 {
    enter(ctx, 3, sleeps, Operation::Send, |call| {
        call.bytes = u64::from(ctx.arg::<u32>(2));
        call.flags = 0;
        function::message(call, ctx.arg(1));
    })
}

#[inline(always)]
fn connect(ctx: &LsmContext, sleeps: Sleeps) -> i32 {
    enter(ctx, 3, sleeps, Operation::Connect, |call| {
        call.name = Name {
            address: ctx.arg(1),
            length: ctx.arg(2),
            space: Space::Kernel,
        };
    })
}

#[inline(always)]
fn accept(ctx: &LsmContext, sleeps: Sleeps) -> i32 {
    enter(ctx, 2, sleeps, Operation::Accept, |_| {})
}

#[inline(always)]
fn recvmsg(ctx: &LsmContext, sleeps: Sleeps) -> i32 {
    enter(ctx, 4, sleeps, Operation::Recv, |call| {
        call.bytes = u64::from(ctx.arg::<u32>(2));
        call.flags = flags::NO_RETURN;
        call.message_flags = ctx.arg(RECV_FLAGS);
    })
}

/// `arguments`: behind them lies the answer of the program before.
#[inline(always)]
fn enter(
    ctx: &LsmContext,
    arguments: usize,
    sleeps: Sleeps,
    operation: Operation,
    describe: impl FnOnce(&mut Call),
) -> i32 {
    // Another LSM program has refused already: its answer stands.
    let previous: i32 = ctx.arg(arguments);
    if previous != 0 {
        return previous;
    }
    let Some(sender) = flow::sender() else {
        return 0;
    };
    let mut call = Call {
        hook: Hook::Lsm,
        place: operation as u8,
        bytes: 0,
        message_flags: 0,
        name: Name::NONE,
        flags: flags::NO_RETURN | flags::BYTES_UNKNOWN,
        sleeps,
        operation,
    };
    describe(&mut call);
    let sock = pointer(ctx.arg(0), setup!(offsets.socket_sk));
    negative(flow::enter(&sender, sock, &call))
}

/// `-errno`, in a form in which the verifier can see that it lies between
/// -4095 and 0, as it demands: it follows a subtraction, but not the negation
/// that the compiler would make of one (refused by 6.12).
#[inline(always)]
fn negative(errno: u32) -> i32 {
    let errno = u64::from(errno & 0xfff);
    let mut result = 0i64;
    // SAFETY: plain arithmetic.
    unsafe {
        asm!(
            "{result} -= {errno}",
            result = inout(reg) result,
            errno = in(reg) errno,
        );
    }
    result as i32
}
