//! Reads a recording, also one that is damaged or was cut off.

use std::ops::Range;

use prost::Message as _;
use thiserror::Error;

use super::{
    HEADER, MARK, VERSION,
    schema::{Content, Item},
};

/// What a chunk may unpack to, in bytes. Ours have a little over 256 KiB.
const MAX_CHUNK: usize = 16 << 20;

/// It cannot be read at all.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoRecording {
    /// It is something else.
    #[error("it is not a recording of injector: it does not begin like one")]
    Other,
    /// It is of a later version that this one cannot read.
    #[error("it has format {0}, and this injector reads up to {VERSION}: use a newer injector")]
    Newer(u32),
}

/// What could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that were passed over.
    pub bytes: u64,
    /// Places where that was.
    pub places: u64,
    /// Items of sorts that this version does not know.
    pub unknown_items: u64,
}

/// A recording in memory, as an iterator over what was recorded.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    items: Vec<u8>,
    next: usize,
    /// What could not be read so far.
    pub damage: Damage,
}

impl<'a> Reader<'a> {
    /// Begins to read.
    pub fn new(bytes: &'a [u8]) -> Result<Self, NoRecording> {
        let magic = HEADER.len() - 4;
        let Some((header, _)) = bytes.split_first_chunk::<{ HEADER.len() }>() else {
            return Err(NoRecording::Other);
        };
        if header[..magic] != HEADER[..magic] {
            return Err(NoRecording::Other);
        }
        let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if version > VERSION {
            return Err(NoRecording::Newer(version));
        }
        Ok(Self {
            bytes,
            at: HEADER.len(),
            items: Vec::new(),
            next: 0,
            damage: Damage::default(),
        })
    }

    /// Unpacks the next chunk that is whole; false at the end.
    fn fill(&mut self) -> bool {
        let mut lost = None;
        while self.at < self.bytes.len() {
            if let Some((items, end)) = unpack(&self.bytes[self.at..]) {
                self.damaged(lost, self.at);
                self.items = items;
                self.next = 0;
                self.at += end;
                return true;
            }
            lost.get_or_insert(self.at);
            // Damaged: the next mark, wherever it is.
            let rest = &self.bytes[self.at + 1..];
            let step = rest.windows(MARK.len()).position(|window| window == MARK);
            self.at = step.map_or(self.bytes.len(), |step| self.at + 1 + step);
        }
        self.damaged(lost, self.at);
        false
    }

    fn damaged(&mut self, from: Option<usize>, to: usize) {
        if let Some(from) = from {
            self.damage.bytes += (to - from) as u64;
            self.damage.places += 1;
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Content;

    fn next(&mut self) -> Option<Content> {
        loop {
            if self.next >= self.items.len() {
                if !self.fill() {
                    return None;
                }
                continue;
            }
            let mut rest = &self.items[self.next..];
            let before = rest.len();
            if let Ok(item) = Item::decode_length_delimited(&mut rest) {
                self.next += before - rest.len();
                match item.content {
                    Some(content) => return Some(content),
                    None => self.damage.unknown_items += 1,
                }
            } else {
                // The checksum was right, so a later version made it.
                self.damage.unknown_items += 1;
                self.next = self.items.len();
            }
        }
    }
}

/// The items of the chunk at the start of these bytes, and where it ends.
fn unpack(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (head, rest) = bytes.split_first_chunk::<12>()?;
    if head[..4] != MARK {
        return None;
    }
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let checksum = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let range: Range<usize> = 0..usize::try_from(length).ok()?;
    let end = head.len() + range.end;
    let packed = rest.get(range)?;
    if crc32fast::hash(packed) != checksum {
        return None;
    }
    let size = u32::from_le_bytes(*packed.first_chunk::<4>()?) as usize;
    if size > MAX_CHUNK {
        return None;
    }
    let items = lz4_flex::decompress_size_prepended(packed).ok()?;
    Some((items, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::write::chunk, *};

    fn note(text: &str) -> Content {
        Content::Note(text.to_owned())
    }

    fn recording(chunks: &[&[Content]]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for contents in chunks {
            let mut items = Vec::new();
            for content in *contents {
                let item = Item {
                    content: Some(content.clone()),
                };
                item.encode_length_delimited(&mut items).unwrap();
            }
            bytes.extend(chunk(&items));
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Content>, Damage) {
        let mut reader = Reader::new(bytes).unwrap();
        let contents = reader.by_ref().collect();
        (contents, reader.damage)
    }

    #[test]
    fn what_was_written_is_read() {
        let all = [note("a"), note("b"), note("c")];
        let bytes = recording(&[&all[..2], &all[2..]]);
        assert_eq!(read(&bytes), (all.to_vec(), Damage::default()));
    }

    #[test]
    fn a_damaged_chunk_costs_only_itself() {
        let all = [note("first"), note("second"), note("third")];
        let chunks: Vec<&[Content]> = all.chunks(1).collect();
        let mut bytes = recording(&chunks);
        let second = recording(&chunks[..1]).len();
        bytes[second + 14] ^= 1;
        let (contents, damage) = read(&bytes);
        assert_eq!(contents, [note("first"), note("third")]);
        assert_eq!(damage.places, 1);
        let lost = recording(&chunks[..2]).len() - second;
        assert_eq!(damage.bytes, lost as u64);
    }

    #[test]
    fn other_files_and_later_versions_are_refused() {
        assert_eq!(Reader::new(b"PK").err(), Some(NoRecording::Other));
        assert_eq!(
            Reader::new(b"something else").err(),
            Some(NoRecording::Other)
        );
        let mut later = HEADER;
        later[8] += 1;
        let error = Reader::new(&later).err();
        assert_eq!(error, Some(NoRecording::Newer(VERSION + 1)));
    }

    #[test]
    fn what_a_later_version_adds_is_counted() {
        // Field 15, a string: an item that this version does not have.
        let mut bytes = HEADER.to_vec();
        bytes.extend(chunk(&[3, 15 << 3 | 2, 1, b'x']));
        let (contents, damage) = read(&bytes);
        assert!(contents.is_empty());
        assert_eq!((damage.unknown_items, damage.places), (1, 0));
    }

    proptest! {
        /// What is cut off costs no more than the last chunk that is left.
        #[test]
        fn a_cut_file_is_read_up_to_the_cut(chunks in 1..8usize, cut in 0..1000usize) {
            let all: Vec<Content> = (0..chunks).map(|n| note(&n.to_string())).collect();
            let parts: Vec<&[Content]> = all.chunks(1).collect();
            let bytes = recording(&parts);
            let cut = HEADER.len() + cut % (bytes.len() - HEADER.len() + 1);
            let whole = (0..=chunks)
                .rev()
                .find(|n| recording(&parts[..*n]).len() <= cut)
                .unwrap_or(0);
            let (contents, damage) = read(&bytes[..cut]);
            prop_assert_eq!(contents, &all[..whole]);
            let lost = cut - recording(&parts[..whole]).len();
            prop_assert_eq!(damage.bytes, lost as u64);
        }

        #[test]
        fn hostile_files_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut file = HEADER.to_vec();
            file.extend(&bytes);
            let _ = read(&file);
            let mut file = HEADER.to_vec();
            file.extend(chunk(&bytes));
            let _ = read(&file);
        }
    }
}
