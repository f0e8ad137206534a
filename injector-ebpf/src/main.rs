//! The kernel programs of injector. This file is only their list; each hook is
//! a thin file that calls `send::flow`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    clippy::inline_always,
    reason = "a call inside a BPF program costs stack that it does not have"
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
