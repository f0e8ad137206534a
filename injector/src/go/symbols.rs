//! Functions and lines of a program by address: the function table, with the
//! address of the text and the inline trees that it needs.

use std::collections::HashMap;

use super::{
    image::{Image, Segment},
    layout::Field,
    moduledata::Moduledata,
    offsets::Offsets,
    pclntab::{Frame, Function, MAGICS, Pclntab, Unfit},
};

/// Names that the section has had: in position-independent programs before Go
/// 1.26 it is among the data that the loader relocates.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// Where the parts of the table are in the program.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Address of the table.
    pub table: u64,
    /// Address that offsets of functions count from.
    pub text: u64,
    /// Address that inline trees count from, when known.
    pub go_func: Option<u64>,
    /// Address that names of types count from, when known.
    pub types: Option<u64>,
}

/// The functions of a program.
#[derive(Clone, Copy)]
pub struct Symbols<'a> {
    table: Pclntab<'a>,
    text: u64,
    go_func: Option<&'a [u8]>,
}

/// A function with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Address of its first instruction, as the file is linked.
    pub address: u64,
    /// Bytes up to the next function.
    pub size: u64,
}

impl<'a> Symbols<'a> {
    /// The table of an image, where it was found before.
    pub fn new(image: &'a Image, places: Places) -> Option<Self> {
        Some(Self {
            table: Pclntab::parse(image.at(places.table)?).ok()?,
            text: places.text,
            go_func: places.go_func.and_then(|address| image.at(address)),
        })
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Those of the wanted functions that are there. Of several with one name
    /// the first counts.
    pub fn find(&self, wanted: &[&'static str]) -> HashMap<&'static str, Extent> {
        let mut open: HashMap<&str, &'static str> =
            wanted.iter().map(|name| (*name, *name)).collect();
        let mut found = HashMap::new();
        for function in self.table.functions() {
            let name = function.name().and_then(|name| open.remove(name));
            if let Some(name) = name {
                found.insert(name, self.extent(&function));
                if open.is_empty() {
                    break;
                }
            }
        }
        found
    }

    /// All functions with their names, by address.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = (&'a str, Extent)> {
        self.table
            .functions()
            .filter_map(|function| Some((function.name()?, self.extent(&function))))
    }

    /// The function that an address lies in.
    pub fn at(&self, address: u64) -> Option<(&'a str, Extent)> {
        let function = self.table.find(address.checked_sub(self.text)?)?;
        Some((function.name()?, self.extent(&function)))
    }

    /// The frames of the instruction at an address, innermost first: calls
    /// that were inlined there, then the function itself. The address of a
    /// caller is one less than its return address.
    pub fn frames(&self, address: u64) -> Vec<Frame> {
        let Some(offset) = address.checked_sub(self.text) else {
            return Vec::new();
        };
        self.table.find(offset).map_or_else(Vec::new, |function| {
            function.frames(offset - function.start, self.go_func)
        })
    }

    fn extent(&self, function: &Function<'_>) -> Extent {
        Extent {
            address: self.text.wrapping_add(function.start),
            size: function.size(),
        }
    }
}

/// Finds the function table of a program: its address.
pub fn locate(image: &Image) -> Result<u64, Unfit> {
    let named = SECTIONS.iter().find_map(|name| image.section(name));
    let mut worst = None;
    if let Some(section) = named {
        match Pclntab::parse(image.contents(section)) {
            Ok(_) => return Ok(section.address),
            Err(why) => worst = Some(why),
        }
    }
    // Without a section of its own it is somewhere in read-only data, which an
    // external linker calls .data.rel.ro; that is smaller than its segment.
    let relro = image.section(".data.rel.ro").map(|section| Segment {
        address: section.address,
        offset: section.offset,
        size: section.size,
        writable: true,
        executable: false,
    });
    let data = image
        .segments()
        .iter()
        .filter(|segment| !segment.executable);
    relro
        .into_iter()
        .chain(data.copied())
        .find_map(|segment| search(image, &segment))
        .ok_or(worst.unwrap_or(Unfit::Damaged("there is none")))
}

fn search(image: &Image, segment: &Segment) -> Option<u64> {
    // The lowest byte differs between the formats, the next ones do not; then
    // two zeros, the smallest instruction, and the size of a pointer.
    let [low, high] = MAGICS.map(u32::to_le_bytes);
    let wanted = [low[0], low[1], low[2], low[3], 0, 0, 0, 8];
    let mask = [false, true, true, true, true, true, false, true];
    debug_assert_eq!(low[1..], high[1..]);
    let mut found = None;
    // A file that cannot be read any more has nothing to find.
    let _ = image.scan(segment, wanted, mask, |address| {
        if image.at(address).is_some_and(Pclntab::begins) {
            found = Some(address);
        }
        found.is_some()
    });
    found
}

/// Where the table, the text, the inline trees and the types are, the last two
/// as far as it is known for this version where moduledata has them.
pub fn places(image: &Image, offsets: &Offsets) -> Result<Places, Unfit> {
    let address = locate(image)?;
    let bytes = image.at(address).unwrap_or_default();
    let table = Pclntab::parse(bytes)?;
    let moduledata = Moduledata::find(image, address, &table);
    let text = match &moduledata {
        Some(moduledata) => moduledata.text(),
        // Before Go 1.26 the header says it, too.
        None => Some(table.text_start).filter(|text| *text != 0),
    };
    let word = |field| {
        let at = offsets.get(field)?;
        moduledata.as_ref()?.word(u64::from(at))
    };
    Ok(Places {
        table: address,
        text: text.ok_or(Unfit::Damaged(
            "the start of the text is not known, because runtime.firstmoduledata was not found",
        ))?,
        go_func: word(Field::ModuleGoFunc),
        types: word(Field::ModuleTypes),
    })
}
