//! What kprobe and fentry have in common: the arguments of a send function.

use injector_ebpf::{Hook, Operation, Place, Shape};

use super::{
    engine::Sleeps,
    flow::{self, Call, Sender},
    socket::Name,
};
use crate::{
    maps::setup,
    memory::{Space, member, pointer},
};

/// Number of arguments of a shape: an fexit program finds the result behind
/// the last of them.
#[inline(always)]
pub const fn arguments(shape: Shape) -> usize {
    match shape {
        Shape::SockMsg | Shape::SocketMsg => 3,
        Shape::SockPage | Shape::SocketPage => 5,
    }
}

/// A send function was entered with these arguments.
#[inline(always)]
pub fn enter(
    sender: &Sender,
    hook: Hook,
    place: Place,
    shape: Shape,
    argument: impl Fn(usize) -> u64,
) {
    let first = argument(0) as *const u8;
    let sock = match shape {
        Shape::SockMsg | Shape::SockPage => first,
        Shape::SocketMsg | Shape::SocketPage => pointer(first, setup!(offsets.socket_sk)),
    };
    let mut call = Call {
        hook,
        place: place as u8,
        bytes: 0,
        message_flags: 0,
        name: Name::NONE,
        flags: 0,
        sleeps: Sleeps::Never,
        operation: Operation::Send,
    };
    match shape {
        Shape::SockMsg | Shape::SocketMsg => {
            message(&mut call, argument(1) as *const u8);
            call.bytes = argument(2);
        }
        Shape::SockPage | Shape::SocketPage => {
            call.bytes = argument(3);
            call.message_flags = argument(4) as u32;
        }
    }
    flow::enter(sender, sock, &call);
}

/// The members of a kernel `struct msghdr` that matter.
#[inline(always)]
pub fn message(call: &mut Call, message: *const u8) {
    call.message_flags = member(message, setup!(offsets.msghdr_msg_flags));
    call.name = Name {
        address: pointer(message, setup!(offsets.msghdr_msg_name)),
        length: member(message, setup!(offsets.msghdr_msg_namelen)),
        space: Space::Kernel,
    };
}
