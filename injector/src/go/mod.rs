//! What a Go program is: which Go built it, its functions and lines, where its
//! runtime keeps what, and where probes go. Nothing here touches the process:
//! all is read from its program file, which need not be honest.

mod buildinfo;
mod bytes;
mod dwarf;
mod error;
mod image;
mod layout;
mod loaded;
mod maps;
#[cfg(test)]
mod matrix;
mod moduledata;
mod offsets;
mod pclntab;
mod probes;
mod program;
mod site;
mod symbols;
mod tracing;
mod version;

pub use error::GoError;
pub use layout::{Field, TABLE as LAYOUT};
pub use loaded::{Loaded, is_runtime};
pub use maps::MapKind;
pub use offsets::{Offsets, Source};
pub use pclntab::Frame;
pub use probes::{Subject, group, operation};
pub use program::{Placement, Program, Sited};
pub use site::Method;
pub use tracing::{Attachment, NotTraceable, Tracing};
