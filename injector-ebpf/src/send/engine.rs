//! The seam between the flow and the ways to make a thread wait.
//!
//! The flow asks for a wait and gets back what was delivered; which engine
//! does it, and what that engine needs, stays behind these functions.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use injector_ebpf::Control;

use super::{engine_sleep, engine_spin};

/// What the program that saw the send can do about sleeping. Known when it is
/// compiled, so that only sleepable programs hold the calls that sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sleeps {
    /// It cannot sleep, nor arrange it.
    Never,
    /// It sleeps itself.
    Here,
    /// It has the thread sleep on its way back to user mode.
    AtReturn,
}

/// What a wait came to.
pub struct Waited {
    /// Measured length, in nanoseconds.
    pub delivered_ns: u64,
    /// Less was delivered than asked: the engine has a ceiling.
    pub capped: bool,
    /// Less was delivered than asked: the sleep was cut short.
    pub shortened: bool,
}

/// Makes the current thread wait; none if it will wait on its way back to user
/// mode (see [`super::task_work`]).
#[inline(always)]
pub fn wait(
    asked_ns: u64,
    ordinal: u64,
    control: *const Control,
    sleeps: Sleeps,
) -> Option<Waited> {
    if sleeps as u8 == Sleeps::Never as u8 || !engine_sleep::is_there(control) {
        return Some(spin(asked_ns, control));
    }
    if sleeps as u8 == Sleeps::AtReturn as u8 {
        return None;
    }
    Some(match engine_sleep::claim(ordinal) {
        Some(slot) => {
            let waited = sleep(asked_ns, slot, control);
            engine_sleep::release(slot);
            waited
        }
        None => spin(asked_ns, control),
    })
}

/// The longest wait that the engine will deliver for this request: what the
/// ceilings are charged with.
#[inline(always)]
pub fn deliverable(asked_ns: u64, control: *const Control, sleeps: Sleeps) -> u64 {
    if sleeps as u8 != Sleeps::Never as u8 && engine_sleep::is_there(control) {
        asked_ns
    } else {
        engine_spin::deliverable(asked_ns, control)
    }
}

/// Waits on the CPU.
#[inline(always)]
pub fn spin(asked_ns: u64, control: *const Control) -> Waited {
    // SAFETY: reads the clock.
    let start = unsafe { bpf_ktime_get_ns() };
    let over = engine_spin::until(start + engine_spin::deliverable(asked_ns, control));
    let delivered_ns = over - start;
    Waited {
        delivered_ns,
        // Also when the rounds ran out first.
        capped: delivered_ns < asked_ns,
        shortened: false,
    }
}

#[inline(always)]
fn sleep(asked_ns: u64, slot: u32, control: *const Control) -> Waited {
    // SAFETY: reads the clock.
    let start = unsafe { bpf_ktime_get_ns() };
    let delivered_ns = engine_sleep::until(slot, start, start + asked_ns, control) - start;
    Waited {
        delivered_ns,
        capped: false,
        shortened: delivered_ns < asked_ns,
    }
}
