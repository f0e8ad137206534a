//! The seam between the flow and the ways to make a thread wait.
//!
//! The flow asks for a wait and gets back what was delivered; which engine
//! does it, and what that engine needs, stays behind this function.

use injector_ebpf::Control;

use super::engine_spin;

/// What a wait came to.
pub struct Waited {
    /// Measured length, in nanoseconds.
    pub delivered_ns: u64,
    /// Less was delivered than asked: the engine has a ceiling.
    pub capped: bool,
}

/// Makes the current thread wait.
#[inline(always)]
pub fn wait(asked_ns: u64, control: *const Control) -> Waited {
    engine_spin::wait(asked_ns, control)
}

/// The longest wait that the engine will deliver for this request: what the
/// ceilings are charged with.
#[inline(always)]
pub fn deliverable(asked_ns: u64, control: *const Control) -> u64 {
    engine_spin::deliverable(asked_ns, control)
}
