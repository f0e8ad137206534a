//! Hook: the BPF LSM hook `socket_sendmsg`, the only place where a send can be
//! made to fail.
//!
//! `int security_socket_sendmsg(struct socket *sock, struct msghdr *msg, int
//! size)` [security/security.c], checked in 6.1, 6.12, 6.18, 7.3. `sendfile`
//! and `splice` pass through it from 6.5 on.

use core::arch::asm;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use injector_ebpf::Hook;

use super::{
    engine::Sleeps,
    flow::{self, Call},
    function,
    socket::Name,
};
use crate::{maps::setup, memory::pointer};

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

#[inline(always)]
fn sendmsg(ctx: &LsmContext, sleeps: Sleeps) -> i32 {
    // Another LSM program has refused already: its answer stands.
    let previous: i32 = ctx.arg(3);
    if previous != 0 {
        return previous;
    }
    let Some(sender) = flow::sender() else {
        return 0;
    };
    let mut call = Call {
        hook: Hook::Lsm,
        place: 0,
        bytes: u64::from(ctx.arg::<u32>(2)),
        message_flags: 0,
        name: Name::NONE,
        flags: 0,
        sleeps,
    };
    function::message(&mut call, ctx.arg(1));
    let sock = pointer(ctx.arg(0), setup!(offsets.socket_sk));
    let errno = flow::enter(&sender, sock, &call);
    negative(errno)
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
