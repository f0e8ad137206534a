//! The package variables that debugging information declares.

use gimli::{AttributeValue, DebugInfo, LittleEndian, constants};

use crate::go::{bytes::u64, dwarf::Unit};

/// Variables that are remembered; large programs have some ten thousands.
const MOST: usize = 1 << 16;
/// Longest name that is believed, in bytes.
const LONGEST_NAME: usize = 512;
/// `DW_OP_addr`, and how long a location is that consists of it.
const ADDRESS: (u8, usize) = (3, 9);

/// A package variable.
#[derive(Debug)]
pub struct Declared {
    /// With its package, such as `main.cache`.
    pub name: String,
    /// As the file is linked.
    pub address: u64,
    /// Where in the section of units its type is.
    pub of: u64,
}

/// Collects those of one unit. The runtime's own are left out: its maps and
/// locks are not those of Go programs.
pub fn collect(unit: &Unit<'_>, found: &mut Vec<Declared>) -> gimli::Result<()> {
    let info = DebugInfo::new(unit.bytes, LittleEndian);
    let Some(header) = info.units().next()? else {
        return Ok(());
    };
    let abbreviations = header.abbreviations(unit.abbreviations)?;
    let mut entries = header.entries_raw(&abbreviations, None)?;
    while !entries.is_empty() && found.len() < MOST {
        let depth = entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        if depth != 1 || abbreviation.tag() != constants::DW_TAG_variable {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let (mut name, mut address, mut of) = (None, None, None);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            match (attribute.name(), attribute.value()) {
                (constants::DW_AT_name, AttributeValue::String(text)) => {
                    name = str::from_utf8(text.slice()).ok();
                }
                (constants::DW_AT_location, AttributeValue::Exprloc(location)) => {
                    address = fixed(location.0.slice());
                }
                (constants::DW_AT_location, AttributeValue::Block(location)) => {
                    address = fixed(location.slice());
                }
                (constants::DW_AT_type, AttributeValue::DebugInfoRef(at)) => {
                    of = Some(at.0 as u64);
                }
                _ => {}
            }
        }
        if let (Some(name), Some(address), Some(of)) = (name, address, of)
            && is_of_programs(name)
        {
            found.push(Declared {
                name: name.to_owned(),
                address,
                of,
            });
        }
    }
    Ok(())
}

fn fixed(location: &[u8]) -> Option<u64> {
    let is_address = location.first() == Some(&ADDRESS.0) && location.len() == ADDRESS.1;
    is_address.then(|| u64(location, 1)).flatten()
}

fn is_of_programs(name: &str) -> bool {
    let own = ["runtime.", "runtime/", "internal/"];
    name.len() <= LONGEST_NAME && !own.iter().any(|prefix| name.starts_with(prefix))
}
