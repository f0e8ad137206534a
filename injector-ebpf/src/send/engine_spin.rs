//! The spin engine: a bounded loop on the clock inside the hook. Exact to
//! about a microsecond, and it burns the CPU for as long as it lasts.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_loop};
use injector_ebpf::{Control, Counter};

use crate::count::add;

/// `BPF_MAX_LOOPS` of `include/linux/bpf.h`, since Linux 5.17: about half a
/// second of clock reads, above the largest `--max-spin`.
const ROUNDS: u32 = 1 << 23;

struct Spin {
    deadline: u64,
    now: u64,
}

/// What this engine delivers of a delay.
#[inline(always)]
pub fn deliverable(asked_ns: u64, control: *const Control) -> u64 {
    // SAFETY: a live map value.
    let ceiling = unsafe { (*control).max_spin_ns };
    if asked_ns < ceiling {
        asked_ns
    } else {
        ceiling
    }
}

/// Spins until `deadline`. Returns when it was over, which is earlier only if
/// the rounds ran out.
#[inline(always)]
pub fn until(deadline: u64) -> u64 {
    // SAFETY: reads the clock.
    let start = unsafe { bpf_ktime_get_ns() };
    let mut spin = Spin {
        deadline,
        now: start,
    };
    // SAFETY: `tick` has the signature that bpf_loop calls, `spin` outlives it.
    unsafe {
        bpf_loop(
            ROUNDS,
            tick as *mut c_void,
            (&raw mut spin).cast::<c_void>(),
            0,
        );
    }
    add(Counter::SpinNs, spin.now - start);
    spin.now
}

/// One look at the clock; 1 ends the loop.
extern "C" fn tick(_round: u32, spin: *mut Spin) -> i64 {
    // SAFETY: `spin` is the caller's stack value.
    unsafe {
        (*spin).now = bpf_ktime_get_ns();
        i64::from((*spin).now >= (*spin).deadline)
    }
}
