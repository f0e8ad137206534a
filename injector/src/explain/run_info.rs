//! What a run is, beside its records.

use std::time::Duration;

use injector_ebpf::Mode;

/// What the caller knows of a run and records do not tell.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Which processes were selected, in the user's words.
    pub targets: String,
    /// Each rule, in the user's words.
    pub rules: Vec<String>,
    /// Whether decisions were carried out.
    pub mode: Mode,
    /// With which the same calls get the same decisions again.
    pub seed: u64,
    /// Where sends were seen.
    pub hook: String,
    /// How threads were made to wait.
    pub engine: String,
    /// Why the run ended.
    pub ended: String,
    /// Monotonic time of the start.
    pub start_ns: u64,
    /// How long the run took.
    pub elapsed: Duration,
    /// Sends that had not returned when the hooks were taken away.
    pub in_flight: u64,
    /// Times that the kernel left out a program of ours.
    pub skipped: u64,
    /// CPU time that injector itself used, without what its hooks burnt.
    pub own_cpu: Option<Duration>,
}
