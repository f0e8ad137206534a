//! Offsets of struct fields from a program's own debugging information.
//!
//! Go's linker puts all types into units named `runtime` (cmd/link's
//! internal/ld/dwarf.go, `movetomodule`). Units are read one after the other,
//! through decompression, and only one is held at a time.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Read},
    ops::ControlFlow,
};

use flate2::read::ZlibDecoder;
use gimli::{AttributeValue, DebugAbbrev, DebugInfo, EndianSlice, LittleEndian, constants};

use super::{
    bytes::u32,
    image::{Image, Section},
    layout::{Field, TABLE},
};

/// The largest unit that is read, in bytes: all types of a large program.
const LARGEST_UNIT: usize = 40 << 20;
/// The largest table of abbreviations that is read, in bytes.
const LARGEST_ABBREVIATIONS: u64 = 4 << 20;
/// Unit that has the types.
const UNIT: &[u8] = b"runtime";

/// Offsets of those fields of the table that the program describes; none
/// without debugging information that can be read.
pub fn offsets(image: &Image) -> HashMap<Field, u32> {
    read(image).unwrap_or_default()
}

/// Whether the program has debugging information.
pub fn is_there(image: &Image) -> bool {
    section(image, "info").is_some()
}

fn read(image: &Image) -> Option<HashMap<Field, u32>> {
    let mut found = HashMap::new();
    each_unit(image, |unit| {
        // A unit that cannot be read is one without the types we look for.
        let _ = collect(unit, &mut found);
        if found.len() < TABLE.len() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Some(found)
}

/// A unit, as it is in the section of units.
pub struct Unit<'a> {
    /// Where in the section it begins, in bytes.
    pub start: u64,
    /// The unit with its length in front.
    pub bytes: &'a [u8],
    /// What its entries are abbreviated by.
    pub abbreviations: &'a DebugAbbrev<EndianSlice<'a, LittleEndian>>,
}

/// Reads the units one after the other, until it is enough; none without
/// debugging information that can be read.
pub fn each_unit(image: &Image, mut with: impl FnMut(&Unit<'_>) -> ControlFlow<()>) -> Option<()> {
    let mut abbreviations = Vec::new();
    stream(image, "abbrev")?
        .take(LARGEST_ABBREVIATIONS)
        .read_to_end(&mut abbreviations)
        .ok()?;
    let abbreviations = DebugAbbrev::new(&abbreviations, LittleEndian);
    let mut units = stream(image, "info")?;
    let mut bytes = Vec::new();
    let mut start = 0;
    while next_unit(&mut units, &mut bytes).ok()? {
        let unit = Unit {
            start,
            bytes: &bytes,
            abbreviations: &abbreviations,
        };
        if with(&unit).is_break() {
            break;
        }
        start += bytes.len() as u64;
    }
    Some(())
}

fn section<'a>(image: &'a Image, name: &str) -> Option<&'a Section> {
    image
        .section(&format!(".debug_{name}"))
        .or_else(|| image.section(&format!(".zdebug_{name}")))
}

/// The contents of a section, decompressed on the way.
fn stream<'a>(image: &'a Image, name: &str) -> Option<Box<dyn Read + 'a>> {
    /// Bytes of `Elf64_Chdr`, and its `ELFCOMPRESS_ZLIB` (elf.h).
    const CHDR: u64 = 24;
    const ZLIB: u32 = 1;
    /// The older way: this and the size.
    const OLDER: &[u8] = b"ZLIB";
    const OLDER_HEADER: u64 = 12;
    let section = section(image, name)?;
    let bytes = image.contents(section);
    if section.compressed {
        let zlib = u32(bytes, 0) == Some(ZLIB);
        return zlib
            .then(|| -> Box<dyn Read> { Box::new(ZlibDecoder::new(image.reader(section, CHDR))) });
    }
    Some(if bytes.starts_with(OLDER) {
        Box::new(ZlibDecoder::new(image.reader(section, OLDER_HEADER)))
    } else {
        Box::new(image.reader(section, 0))
    })
}

/// Reads the next unit with its length in front; false at the end.
fn next_unit(units: &mut dyn Read, unit: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    unit.clear();
    if units.take(4).read_to_end(unit)? < 4 {
        return Ok(false);
    }
    length.copy_from_slice(unit);
    let length = u32::from_le_bytes(length) as usize;
    // Go writes 32-bit DWARF; the escape to 64 bits is a length, too.
    if length > LARGEST_UNIT {
        return Ok(false);
    }
    Ok(units.take(length as u64).read_to_end(unit)? == length)
}

fn collect(unit: &Unit<'_>, found: &mut HashMap<Field, u32>) -> gimli::Result<()> {
    let info = DebugInfo::new(unit.bytes, LittleEndian);
    let Some(header) = info.units().next()? else {
        return Ok(());
    };
    let abbreviations = header.abbreviations(unit.abbreviations)?;
    let mut entries = header.entries_raw(&abbreviations, None)?;
    let mut structure: Option<(isize, Cow<'_, str>)> = None;
    while !entries.is_empty() {
        let depth = entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        let (mut name, mut offset) = (None, None);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            match (attribute.name(), attribute.value()) {
                (constants::DW_AT_name, AttributeValue::String(text)) => name = Some(text),
                (constants::DW_AT_data_member_location, value) => offset = value.udata_value(),
                _ => {}
            }
        }
        match (abbreviation.tag(), name) {
            (constants::DW_TAG_compile_unit, name)
                if name.is_none_or(|name| name.slice() != UNIT) =>
            {
                return Ok(());
            }
            (constants::DW_TAG_structure_type, Some(name)) => {
                structure = Some((depth, name.to_string_lossy()));
            }
            (constants::DW_TAG_member, Some(name)) => {
                let of = structure.as_ref().filter(|(of, _)| depth == of + 1);
                if let (Some((_, structure)), Some(offset)) = (of, offset) {
                    note(structure, &name.to_string_lossy(), offset, found);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn note(structure: &str, member: &str, offset: u64, found: &mut HashMap<Field, u32>) {
    let fits = TABLE
        .iter()
        .filter(|row| row.types.contains(&structure) && row.names.contains(&member));
    for row in fits {
        if let Ok(offset) = u32::try_from(offset) {
            found.entry(row.field).or_insert(offset);
        }
    }
}
