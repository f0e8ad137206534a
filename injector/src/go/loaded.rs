//! A program in the memory of a process: from addresses there to functions and
//! lines.

use std::{fs, io, os::linux::fs::MetadataExt as _};

use object::{
    LittleEndian,
    elf::{STT_OBJECT, Sym64},
};
use thiserror::Error;

use super::{image::Image, pclntab::Frame, program::Program, returns};

/// Where a process has its program cannot be found out.
#[derive(Debug, Error)]
#[error("cannot find out where process {pid} has its program in memory: {why}")]
pub struct NotLoaded {
    pid: u32,
    why: String,
}

/// A program, and how far from its own addresses a process has it.
pub struct Loaded {
    program: Program,
    bias: u64,
}

impl Loaded {
    /// Looks at the memory map of a process that runs this program.
    pub fn new(program: Program, pid: u32) -> Result<Self, NotLoaded> {
        let refuse = |why: String| NotLoaded { pid, why };
        let bias = if program.image().pie {
            let inode = |error: io::Error| refuse(error.to_string());
            let inode = program.image().file().metadata().map_err(inode)?.st_ino();
            let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
                .map_err(|error| refuse(error.to_string()))?;
            bias(program.image(), &maps, inode)
                .ok_or_else(|| refuse("its code is not in the list of mappings".to_owned()))?
        } else {
            0
        };
        Ok(Self { program, bias })
    }

    /// Where the process has a package variable, such as `main.cache`: by the
    /// symbol table, which programs linked with `-s` have not.
    pub fn variable(&self, name: &str) -> Option<u64> {
        let image = self.program.image();
        let symbols = image.contents(image.section(".symtab")?);
        let names = image.contents(image.section(".strtab")?);
        let count = symbols.len() / size_of::<Sym64<LittleEndian>>();
        let (symbols, _) = object::slice_from_bytes::<Sym64<LittleEndian>>(symbols, count).ok()?;
        let symbol = symbols.iter().find(|symbol| {
            let at = symbol.st_name.get(LittleEndian) as usize;
            let rest = names
                .get(at..)
                .and_then(|rest| rest.strip_prefix(name.as_bytes()));
            symbol.st_type() == STT_OBJECT && rest.is_some_and(|rest| rest.first() == Some(&0))
        })?;
        Some(self.placed(symbol.st_value.get(LittleEndian)))
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where the file is linked to have what is at an address of the process.
    pub fn linked(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }

    /// Where the process has what is at an address of the file.
    pub fn placed(&self, address: u64) -> u64 {
        address.wrapping_add(self.bias)
    }

    /// Functions and lines of a stack: an instruction, then return addresses.
    /// Calls that were inlined have frames of their own.
    pub fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        let Some(symbols) = self.program.symbols() else {
            return Vec::new();
        };
        let addresses = stack.iter().enumerate().map(|(index, address)| {
            // A return address can be behind the end of its line, or of its
            // function.
            let outward = u64::from(index > 0);
            self.linked(*address).wrapping_sub(outward)
        });
        addresses
            .flat_map(|address| symbols.frames(address))
            .collect()
    }

    /// How many return addresses of a stack cannot be any.
    pub fn wrong(&self, stack: &[u64]) -> usize {
        returns::wrong(self, stack)
    }

    /// The first function outside of the runtime among these return addresses,
    /// innermost first.
    pub fn caller(&self, return_addresses: &[u64]) -> Option<Frame> {
        let known = return_addresses.iter().filter(|address| **address != 0);
        let before: Vec<u64> = known.map(|address| address.wrapping_sub(1)).collect();
        let frames = before.iter().flat_map(|address| self.frames(&[*address]));
        frames
            .into_iter()
            .find(|frame| !is_runtime(&frame.function))
    }
}

/// Whether a function is the runtime's, by the names of its packages.
pub fn is_runtime(function: &str) -> bool {
    function.starts_with("runtime.") || function.starts_with("internal/runtime/")
}

/// The difference between where the code is and where it was linked to be, by
/// a line of `/proc/PID/maps` (`start-end flags offset device inode path`).
fn bias(image: &Image, maps: &str, inode: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (start, _) = words.next()?.split_once('-')?;
        let flags = words.next()?;
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let own: u64 = words.nth(1)?.parse().ok()?;
        if own != inode || !flags.contains('x') {
            return None;
        }
        let start = u64::from_str_radix(start, 16).ok()?;
        let segment = image
            .segments()
            .iter()
            .find(|segment| segment.executable && page(segment.offset) == offset)?;
        start.checked_sub(page(segment.address))
    })
}

/// Segments are mapped from the start of their first page.
fn page(address: u64) -> u64 {
    address & !0xfff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_programs_are_not_the_runtime() {
        assert!(is_runtime("runtime.mapdelete_fast64"));
        assert!(is_runtime("internal/runtime/maps.(*Map).Delete"));
        assert!(!is_runtime("main.(*runtime).put"));
        assert!(!is_runtime("example/runtime.Put"));
    }

    #[test]
    fn segments_begin_at_the_start_of_their_page() {
        assert_eq!(page(0x40_1fff), 0x40_1000);
        assert_eq!(page(0x1000), 0x1000);
    }
}
