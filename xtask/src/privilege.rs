//! Who we are.

use anyhow::{Result, ensure};

use crate::refusal::Refusal;

/// True when we run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Refuses unless we are root; `what` completes "… needs root".
pub fn require_root(what: &str) -> Result<()> {
    ensure!(
        is_root(),
        Refusal(format!("{what} needs root: run it again with sudo"))
    );
    Ok(())
}
