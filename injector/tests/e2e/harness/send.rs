//! A send as `--output json` tells it, see docs/json.md.

use serde::Deserialize;

/// The fields that tests look at.
#[derive(Clone, Debug, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a field of the documented format"
)]
pub struct Send {
    pub pid: u32,
    pub comm: String,
    pub protocol: String,
    pub hook: String,
    pub place: Option<String>,
    pub local: Option<String>,
    pub peer: Option<String>,
    pub asked_bytes: Option<u64>,
    pub errno_name: Option<String>,
    pub verdict: String,
    pub guard: Option<String>,
    pub call_index: Option<u64>,
    pub goroutine: Option<u64>,
    pub asked_ns: Option<u64>,
    pub delivered_ns: Option<u64>,
    pub natural_ns: Option<u64>,
    pub flagged: bool,
    pub failed: bool,
    pub signalled: bool,
    pub capped: bool,
    pub shortened: bool,
    pub non_blocking: bool,
}

impl Send {
    /// Chosen, and the fault was delivered.
    pub fn is_delivered(&self) -> bool {
        self.verdict == "delivered"
    }
}
