//! What trials are written with.

mod bpf;
pub mod browser;
pub mod go;
mod host;
mod injector;
pub mod process;
pub mod programs;
mod send;
mod senders;
pub mod statistics;
mod target;
mod terminal;
mod uprobe;

pub use bpf::Bpf;
pub use host::{Hook, Host};
pub use injector::{Ended, Injector};
pub use send::Send;
pub use senders::Senders;
pub use target::Target;
pub use terminal::Terminal;
pub use uprobe::Uprobe;

use std::time::{Duration, Instant};

/// One millisecond.
pub const MS: u64 = 1_000_000;

/// Waits until `check` holds; false when it did not in time.
pub fn eventually(limit: Duration, mut check: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if check() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
