//! The kernel programs of injector. This file is only their list; each hook is
//! a thin file that calls `send::flow`.
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
    clippy::doc_markdown,
    reason = "the docs of generated programs are C prototypes"
)]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "the kernel aligns the fields of a syscall's record to 8 bytes"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, an entry would be copied to the stack, which is too small for it"
)]
// Inline assembly for the atomic instructions; see `atomic.rs`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod lifecycle;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod memory;
#[cfg(target_arch = "bpf")]
mod ring;
#[cfg(target_arch = "bpf")]
mod send;

/// The kernel side only exists for the bpf target.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Never reached: the verifier refuses a program that could come here.
    loop {}
}

/// Needed for the GPL-only helpers (`bpf_probe_read_kernel` and others).
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
