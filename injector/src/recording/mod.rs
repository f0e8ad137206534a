//! A run in a file: everything that was seen and what was known about it, so
//! that reports can be made of it later, on any machine.
//!
//! docs/recording.md has the format. The file is a header and chunks. A chunk is
//! `INJC`, the length and the CRC-32 of what follows (32 bits each, little endian),
//! and items that were compressed together (LZ4 block with its size in front): each
//! a varint length and an [`schema::Item`] in Protocol Buffers. A crash costs the chunk that was being
//! filled; a damaged one costs itself, for the next is found by its mark.

mod events;
mod names;
pub mod read;
pub mod replay;
pub mod run;
pub mod schema;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
pub mod write;

/// Format of the file. Fields and items can be added without a new one.
const VERSION: u32 = 1;

/// What a recording begins with: eight bytes and the version.
const HEADER: [u8; 12] = {
    let version = VERSION.to_le_bytes();
    [
        b'I', b'N', b'J', b'E', b'C', b'T', b'O', b'R', version[0], version[1], version[2],
        version[3],
    ]
};

/// What each chunk begins with.
const MARK: [u8; 4] = *b"INJC";
