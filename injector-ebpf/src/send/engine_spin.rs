//! The spin engine: a bounded loop on the clock inside the hook. Exact to
//! about a microsecond, and it burns the CPU for as long as it lasts.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_loop};
use injector_ebpf::{Control, Counter};

use super::engine::Waited;
use crate::count::add;

/// `BPF_MAX_LOOPS` of `include/linux/bpf.h`, since Linux 5.17: about half a
/// second of clock reads, above the largest `--max-spin`.
const ROUNDS: u32 = 1 << 23;

struct Spin {
    deadline: u64,
    now: u64,
}

/// See [`super::engine::deliverable`].
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

/// See [`super::engine::wait`].
#[inline(always)]
pub fn wait(asked_ns: u64, control: *const Control) -> Waited {
    let length = deliverable(asked_ns, control);
    // SAFETY: reads the clock.
    let start = unsafe { bpf_ktime_get_ns() };
    let mut spin = Spin {
        deadline: start + length,
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
    let delivered_ns = spin.now - start;
    add(Counter::SpinNs, delivered_ns);
    Waited {
        delivered_ns,
        // Also when the rounds ran out first.
        capped: delivered_ns < asked_ns,
    }
}

/// One look at the clock; 1 ends the loop.
extern "C" fn tick(_round: u32, spin: *mut Spin) -> i64 {
    // SAFETY: `spin` is the caller's stack value.
    unsafe {
        (*spin).now = bpf_ktime_get_ns();
        i64::from((*spin).now >= (*spin).deadline)
    }
}
