//! Reads of kernel and user memory through the helpers that survive a bad
//! address.

use aya_ebpf::helpers::{
    bpf_probe_read_kernel, bpf_probe_read_user,
    generated::{
        bpf_probe_read_kernel as read_kernel_bytes, bpf_probe_read_user as read_user_bytes,
    },
};
use injector_ebpf::Offsets;

/// Where an address points.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Kernel memory.
    Kernel,
    /// Memory of the current process.
    User,
}

/// A member of a kernel struct, zero when the member or the memory is absent.
#[inline(always)]
pub fn member<T: Default>(base: *const u8, offset: u32) -> T {
    if offset == Offsets::ABSENT || base.is_null() {
        return T::default();
    }
    read(base.wrapping_add(offset as usize), Space::Kernel)
}

/// A pointer member of a kernel struct, null when absent.
#[inline(always)]
pub fn pointer(base: *const u8, offset: u32) -> *const u8 {
    member::<u64>(base, offset) as *const u8
}

/// A value at an address, zero when it cannot be read.
#[inline(always)]
pub fn read<T: Default>(address: *const u8, space: Space) -> T {
    // SAFETY: both helpers accept any address and report a fault.
    unsafe {
        match space {
            Space::Kernel => bpf_probe_read_kernel(address.cast::<T>()),
            Space::User => bpf_probe_read_user(address.cast::<T>()),
        }
    }
    .unwrap_or_default()
}

/// Copies at most `N` bytes; the rest of `to` is left as it is.
#[inline(always)]
pub fn copy<const N: usize>(to: &mut [u8; N], from: *const u8, length: u32, space: Space) {
    let length = if length > N as u32 { N as u32 } else { length };
    if length == 0 {
        return;
    }
    let to = to.as_mut_ptr().cast();
    // SAFETY: `length` is at most the size of `to`; a fault zeroes it.
    unsafe {
        match space {
            Space::Kernel => read_kernel_bytes(to, length, from.cast()),
            Space::User => read_user_bytes(to, length, from.cast()),
        };
    }
}
