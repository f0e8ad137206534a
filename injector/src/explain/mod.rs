//! From records to conclusions. Nothing here touches a file, a clock or the
//! kernel, so everything runs in host tests on recorded events.

mod confidence;
pub mod fatal;
pub mod map_header;
pub mod maps;
mod run_info;
mod send;
mod summary;
mod times;
mod totals;
pub mod watch;

#[cfg(test)]
pub mod fixture;

pub use confidence::Confidence;
pub use run_info::RunInfo;
pub use send::{Address, Lossy, SendView};
pub use summary::{Summary, Tally};
pub use times::{EDGES, ROWS, Times};
pub use totals::Totals;
