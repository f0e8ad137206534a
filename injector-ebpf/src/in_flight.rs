//! What is kept of a send until it returns.

use crate::SendRecord;

/// A send between entry and exit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InFlight {
    /// What will be reported.
    pub record: SendRecord,
    /// The `struct sock`: tells a nested call from a missed return.
    pub sock: u64,
    /// When the fault was over and the send itself began.
    pub acted_ns: u64,
    /// Threshold that applies, `u64::MAX` for none.
    pub threshold_ns: u64,
    /// When a wait on the way back began.
    pub wait_start_ns: u64,
    /// Signal for passing the threshold, 0 for none.
    pub signal: u32,
    /// Nested calls of other send functions that have not returned.
    pub depth: u32,
    /// The sleep engine's slot while the thread waits on its way back.
    pub slot: u32,
    /// 1: the delay comes on the way back to user mode.
    pub waits_at_return: u32,
}
