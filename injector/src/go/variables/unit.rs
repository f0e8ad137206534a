//! The types of a unit of debugging information, read where they are asked for.

use gimli::{
    Abbreviations, AttributeValue, DebugInfo, DwAt, DwTag, EndianSlice, LittleEndian, UnitHeader,
    UnitOffset, constants,
};

use crate::go::dwarf::Unit;

/// Attributes that Go adds (cmd/internal/dwarf/dwarf.go, `DW_AT_go_kind` and
/// following).
const GO_KIND: DwAt = DwAt(0x2900);
const GO_ELEMENT: DwAt = DwAt(0x2902);
const GO_RUNTIME_TYPE: DwAt = DwAt(0x2904);
/// Fields of a struct that are looked at.
const MOST_MEMBERS: usize = 512;
/// Names for names that are followed.
const LONGEST_CHAIN: usize = 8;

/// Kinds of types (internal/abi/type.go, `Kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Array,
    Map,
    Pointer,
    Slice,
    Struct,
    Other,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number {
            17 => Self::Array,
            21 => Self::Map,
            22 => Self::Pointer,
            23 => Self::Slice,
            25 => Self::Struct,
            _ => Self::Other,
        }
    }
}

/// A type.
#[derive(Clone, Debug)]
pub struct Type {
    pub kind: Kind,
    pub name: String,
    /// Bytes of a value, if said.
    pub size: Option<u64>,
    /// The type of what it points to or consists of.
    pub of: Option<u64>,
    /// Elements of an array.
    pub count: u64,
    /// Where its runtime type is in the type data, 0 when it has none.
    pub runtime: u64,
    /// Fields of a struct: name, offset, type.
    pub members: Vec<(String, u64, u64)>,
}

/// The types of one unit.
pub struct Types<'a> {
    start: u64,
    header: UnitHeader<EndianSlice<'a, LittleEndian>>,
    abbreviations: Abbreviations,
}

/// What the attributes of an entry say.
#[derive(Default)]
struct Said<'a> {
    name: Option<&'a str>,
    size: Option<u64>,
    kind: Option<u64>,
    of: Option<u64>,
    element: Option<u64>,
    runtime: u64,
    offset: Option<u64>,
    count: Option<u64>,
}

impl<'a> Types<'a> {
    pub fn new(unit: &Unit<'a>) -> gimli::Result<Self> {
        let info = DebugInfo::new(unit.bytes, LittleEndian);
        let header = info.units().next()?;
        let header = header.ok_or(gimli::Error::MissingUnitDie)?;
        Ok(Self {
            start: unit.start,
            abbreviations: header.abbreviations(unit.abbreviations)?,
            header,
        })
    }

    /// The type at an offset of the section, behind its other names.
    pub fn get(&self, mut at: u64) -> Option<Type> {
        for _ in 0..LONGEST_CHAIN {
            let (tag, kind, found) = self.entry(at).ok()??;
            if kind || tag != constants::DW_TAG_typedef {
                return Some(found);
            }
            at = found.of?;
        }
        None
    }

    /// Bytes of a value of a type.
    pub fn size(&self, at: u64) -> Option<u64> {
        let found = self.get(at)?;
        match found.kind {
            Kind::Map | Kind::Pointer => Some(8),
            _ => found.size,
        }
    }

    /// Where all structs are.
    pub fn structs(&self) -> Vec<u64> {
        let mut found = Vec::new();
        let Ok(mut entries) = self.header.entries_raw(&self.abbreviations, None) else {
            return found;
        };
        while !entries.is_empty() {
            let at = entries.next_offset().0 as u64 + self.start;
            let depth = entries.next_depth();
            let Ok(abbreviation) = entries.read_abbreviation() else {
                break;
            };
            let Some(abbreviation) = abbreviation else {
                continue;
            };
            if depth == 1 && abbreviation.tag() == constants::DW_TAG_structure_type {
                found.push(at);
            }
            if entries.skip_attributes(abbreviation.attributes()).is_err() {
                break;
            }
        }
        found
    }

    /// What is at an offset: its tag, whether it says its kind, and the rest.
    fn entry(&self, at: u64) -> gimli::Result<Option<(DwTag, bool, Type)>> {
        let Some(within) = at.checked_sub(self.start) else {
            return Ok(None);
        };
        let offset = UnitOffset(within as usize);
        let mut entries = self.header.entries_raw(&self.abbreviations, Some(offset))?;
        let Some(abbreviation) = entries.read_abbreviation()? else {
            return Ok(None);
        };
        let said = read(&mut entries, abbreviation.attributes())?;
        let kind = said.kind.map_or(Kind::Other, Kind::of);
        let mut found = Type {
            kind,
            name: said.name.unwrap_or_default().to_owned(),
            size: said.size,
            of: said.element.or(said.of),
            count: 0,
            runtime: said.runtime,
            members: Vec::new(),
        };
        if abbreviation.has_children() && matches!(kind, Kind::Struct | Kind::Array) {
            while found.members.len() < MOST_MEMBERS && !entries.is_empty() {
                // The entry of nothing ends them; none of them has children.
                let Some(child) = entries.read_abbreviation()? else {
                    break;
                };
                let said = read(&mut entries, child.attributes())?;
                match child.tag() {
                    constants::DW_TAG_member => {
                        if let (Some(name), Some(offset), Some(of)) =
                            (said.name, said.offset, said.of)
                        {
                            found.members.push((name.to_owned(), offset, of));
                        }
                    }
                    constants::DW_TAG_subrange_type => found.count = said.count.unwrap_or(0),
                    _ => {}
                }
            }
        }
        Ok(Some((abbreviation.tag(), said.kind.is_some(), found)))
    }
}

fn read<'a>(
    entries: &mut gimli::EntriesRaw<'_, EndianSlice<'a, LittleEndian>>,
    attributes: &[gimli::AttributeSpecification],
) -> gimli::Result<Said<'a>> {
    let mut said = Said::default();
    for specification in attributes {
        let attribute = entries.read_attribute(*specification)?;
        let value = attribute.value();
        let reference = match value {
            AttributeValue::DebugInfoRef(at) => Some(at.0 as u64),
            _ => None,
        };
        match attribute.name() {
            constants::DW_AT_name => {
                if let AttributeValue::String(text) = value {
                    said.name = str::from_utf8(text.slice()).ok();
                }
            }
            constants::DW_AT_byte_size => said.size = value.udata_value(),
            constants::DW_AT_type => said.of = reference,
            constants::DW_AT_data_member_location => said.offset = value.udata_value(),
            constants::DW_AT_count => said.count = value.udata_value(),
            GO_KIND => said.kind = value.udata_value(),
            GO_ELEMENT => said.element = reference,
            GO_RUNTIME_TYPE => {
                if let AttributeValue::Addr(at) = value {
                    said.runtime = at;
                }
            }
            _ => {}
        }
    }
    Ok(said)
}
