//! `runtime.firstmoduledata`: where the runtime says that its text begins and
//! where inline trees are. Stripped programs have no symbol for it, so it is
//! found by its first word, the address of the function table.
//!
//! Source: Go's runtime/symtab.go, `moduledata`.

use std::collections::BTreeMap;

use super::{bytes::u64, image::Image, pclntab::Pclntab};

/// `pcHeader`, the first field.
const HEADER: u64 = 0;
/// `funcnametab`, the second: what proves that the first word is no accident.
const NAMES: u64 = 8;
/// `text`, in all versions from 1.18 to 1.27.
const TEXT: u64 = 176;
/// More bytes than the struct has in any version.
const SIZE: u64 = 1024;
/// More places to look at than a program has.
const MOST_CANDIDATES: usize = 64;

/// The words of a program's moduledata.
#[derive(Debug)]
pub struct Moduledata<'a> {
    bytes: &'a [u8],
    /// Words that the loader fills in, by offset in the struct.
    relocated: BTreeMap<u64, u64>,
}

impl<'a> Moduledata<'a> {
    /// Finds it, by the address of the function table.
    pub fn find(image: &'a Image, table_address: u64, table: &Pclntab<'_>) -> Option<Self> {
        let names = table_address.checked_add(table.names_at)?;
        candidates(image, table_address)
            .into_iter()
            .find_map(|address| {
                let found = Self::at(image, address)?;
                let fits = found.word(HEADER) == Some(table_address)
                    && found.word(NAMES) == Some(names)
                    && image.at(found.text()?).is_some();
                fits.then_some(found)
            })
    }

    fn at(image: &'a Image, address: u64) -> Option<Self> {
        let range = address..address.checked_add(SIZE)?;
        Some(Self {
            bytes: image.at(address)?,
            relocated: image
                .relative_relocations()
                .filter(|(place, _)| range.contains(place))
                .map(|(place, value)| (place - address, value))
                .collect(),
        })
    }

    /// A pointer or number in it, as the program sees it when it is loaded
    /// where it is linked for.
    pub fn word(&self, offset: u64) -> Option<u64> {
        match self.relocated.get(&offset) {
            Some(value) => Some(*value),
            None => u64(self.bytes, usize::try_from(offset).ok()?),
        }
    }

    /// Where the Go text begins: what offsets in the function table count from.
    pub fn text(&self) -> Option<u64> {
        self.word(TEXT)
    }
}

/// Places that hold the table's address: by relocation in a position-independent
/// program, else as it is.
fn candidates(image: &Image, table_address: u64) -> Vec<u64> {
    let mut places: Vec<u64> = image
        .relative_relocations()
        .filter(|(_, value)| *value == table_address)
        .map(|(place, _)| place)
        .take(MOST_CANDIDATES)
        .collect();
    // moduledata is data: before relocation it can be written to.
    for segment in image.segments().iter().filter(|segment| segment.writable) {
        // A file that cannot be read any more has nothing to find.
        let _ = image.scan(segment, table_address.to_le_bytes(), [true; 8], |address| {
            places.push(address);
            places.len() >= MOST_CANDIDATES
        });
    }
    places
}
