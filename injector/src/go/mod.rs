//! What a Go program is: which Go built it, its functions and lines, where its
//! runtime keeps what, and where probes go. Nothing here touches the process:
//! all is read from its program file, which need not be honest.

mod buildinfo;
mod bytes;
mod dwarf;
mod error;
mod image;
mod inspect;
mod layout;
mod loaded;
mod maps;
#[cfg(test)]
mod matrix;
mod memory;
mod moduledata;
mod offsets;
mod packages;
mod pclntab;
mod probes;
mod program;
mod returns;
mod site;
mod symbols;
mod tracing;
mod types;
mod variables;
mod version;

pub use error::GoError;
pub use inspect::Inspector;
pub use layout::{Field, TABLE as LAYOUT};
pub use loaded::{Loaded, is_runtime};
pub use maps::MapKind;
pub use memory::Memory;
pub use offsets::{Offsets, Source};
pub use packages::{Callers, Pattern};
pub use pclntab::Frame;
pub use probes::{Subject, group, operation};
pub use program::{Placement, Program, Sited, WritingBit};
pub use site::Method;
pub use tracing::{Attachment, NotTraceable, Tracing};
pub use types::map_name;
