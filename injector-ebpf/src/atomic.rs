//! Atomic additions. The bpf target of rustc offers no read-modify-write
//! atomics in `core` (it has no compare-and-swap in the oldest instruction
//! set), so the two instructions that are needed are written out.

use core::arch::asm;

/// `*address += amount`, atomically.
///
/// # Safety
///
/// `address` points at eight aligned bytes of a live map value.
#[inline(always)]
pub unsafe fn add(address: *mut u64, amount: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "lock *(u64 *)({address} + 0) += {amount}",
            address = in(reg) address,
            amount = in(reg) amount,
        );
    }
}

/// `*address += amount`, atomically; returns the value before.
///
/// # Safety
///
/// As for [`add`].
#[inline(always)]
pub unsafe fn fetch_add(address: *mut u64, amount: u64) -> u64 {
    let mut value = amount;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({address} + 0), {value})",
            address = in(reg) address,
            value = inout(reg) value,
        );
    }
    value
}
