//! Reads of the traced program's memory. They never fault a page in, so what is
//! swapped out cannot be read.

use aya_ebpf::helpers::{bpf_probe_read_user, generated::bpf_probe_read_user as read_bytes};

/// A value at an address; none when it cannot be read.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper accepts any address and reports a fault; all uses are
    // of plain integers.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Fills `to` from an address; false, and zeroes, when it cannot be read.
///
/// # Safety
///
/// `to` can be written.
#[inline(always)]
pub unsafe fn copy<const N: usize>(to: *mut [u8; N], address: u64) -> bool {
    // SAFETY: the caller's; the helper accepts any address.
    unsafe { read_bytes(to.cast(), N as u32, address as *const _) == 0 }
}

/// Fills the first `length` bytes of `to`, at most all of it.
///
/// # Safety
///
/// `to` can be written.
#[inline(always)]
pub unsafe fn copy_some<const N: usize>(to: *mut [u8; N], address: u64, length: u64) {
    let length = if length > N as u64 {
        N as u32
    } else {
        length as u32
    };
    // SAFETY: as above; `length` is at most the size of `to`.
    unsafe { read_bytes(to.cast(), length, address as *const _) };
}
