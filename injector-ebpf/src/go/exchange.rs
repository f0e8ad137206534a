//! Atomic exchanges; see `atomic.rs`, which has what both objects need.

use core::arch::asm;

/// `*address = value`, atomically; returns the value before.
///
/// # Safety
///
/// `address` points at eight aligned bytes of a live map value.
#[inline(always)]
pub unsafe fn exchange(address: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "{value} = xchg_64({address} + 0, {value})",
            address = in(reg) address,
            value = inout(reg) value,
        );
    }
    value
}

/// `*address = new` if it is `old`, atomically; returns the value before.
///
/// # Safety
///
/// `address` points at eight aligned bytes of a live map value.
#[inline(always)]
pub unsafe fn compare_exchange(address: *mut u64, old: u64, new: u64) -> u64 {
    let before;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({address} + 0, r0, {new})",
            address = in(reg) address,
            new = in(reg) new,
            inout("r0") old => before,
        );
    }
    before
}
