//! The programs of the map tracer. This file is only their list.
//!
//! They are attached as `uprobe_multi`, which gives each place a cookie that
//! says what it is (see [`injector_ebpf::go::Cookie`]). None is a return probe:
//! those break Go's stacks.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    clippy::inline_always,
    reason = "a call inside a BPF program costs stack that it does not have"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "the macros of aya-ebpf hand the context over by value"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, an entry would be copied to the stack, which is too small for it"
)]
// Inline assembly for the atomic instructions; see `atomic.rs`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
#[path = "../atomic.rs"]
mod atomic;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod cpu;
#[cfg(target_arch = "bpf")]
mod exchange;
#[cfg(target_arch = "bpf")]
mod fatal;
#[cfg(target_arch = "bpf")]
mod gate;
#[cfg(target_arch = "bpf")]
mod goroutine;
#[cfg(target_arch = "bpf")]
mod history;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod overlap;
#[cfg(target_arch = "bpf")]
mod probe;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod ring;
#[cfg(target_arch = "bpf")]
mod stack;
#[cfg(target_arch = "bpf")]
mod user;
#[cfg(target_arch = "bpf")]
mod watch;

/// The kernel side only exists for the bpf target.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Never reached: the verifier refuses a program that could come here.
    loop {}
}

/// Needed for the GPL-only helpers (`bpf_probe_read_user` and others).
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
