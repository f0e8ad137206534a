//! Writes a recording while a run lasts.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use prost::Message as _;

use super::{
    HEADER, MARK,
    schema::{Content, Item},
};

/// Bytes of items that are put into one chunk: what a crash can cost.
const CHUNK: usize = 256 << 10;

/// An open recording.
pub struct Recorder {
    file: File,
    items: Vec<u8>,
    written: u64,
}

impl Recorder {
    /// Begins a new file; one that is there already is left alone.
    ///
    /// # Errors
    ///
    /// There is such a file, or it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create_new(path)?;
        file.write_all(&HEADER)?;
        Ok(Self {
            file,
            items: Vec::with_capacity(2 * CHUNK),
            written: HEADER.len() as u64,
        })
    }

    /// Records something; it is in the file after the next [`Self::flush`].
    pub fn add(&mut self, content: Content) -> io::Result<()> {
        let item = Item {
            content: Some(content),
        };
        // A vector has always room.
        let _ = item.encode_length_delimited(&mut self.items);
        if self.items.len() >= CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    /// Puts what was recorded so far into the file, so that it survives us.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        let chunk = chunk(&self.items);
        self.items.clear();
        self.written += chunk.len() as u64;
        self.file.write_all(&chunk)
    }

    /// The last [`Self::flush`], and waits until the disk has it; how many bytes
    /// the file has.
    pub fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_all()?;
        Ok(self.written)
    }
}

/// A mark, length and checksum of what follows, and the compressed items.
pub(super) fn chunk(items: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::compress_prepend_size(items);
    let mut chunk = Vec::with_capacity(MARK.len() + 8 + packed.len());
    chunk.extend_from_slice(&MARK);
    chunk.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    chunk.extend_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    chunk.extend_from_slice(&packed);
    chunk
}
