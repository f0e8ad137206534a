//! The program file of a process: mapped, never read whole. The file is opened
//! through `/proc/PID/exe`, so it is the one that runs, in whatever mount
//! namespace and whether or not it has been replaced on disk.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use memmap2::{Advice, Mmap};
use object::{
    LittleEndian, elf,
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _},
};

use super::error::GoError;

type Header = elf::FileHeader64<LittleEndian>;

/// More sections than a linker makes; the rest of a hostile file is not looked at.
const MAX_SECTIONS: usize = 4096;
/// More segments than a linker makes.
const MAX_SEGMENTS: usize = 256;
/// Bytes of what is read through that are held.
const BUFFER: usize = 1 << 20;

/// Machines whose Go programs can be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    Amd64,
    /// `AArch64`.
    Arm64,
}

impl Machine {
    /// As `GOARCH` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Address that the file is linked for.
    pub address: u64,
    /// Where it is in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// It is loaded writable (before relocation makes a part read-only).
    pub writable: bool,
    /// It holds instructions.
    pub executable: bool,
}

/// A named part of the file.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name, as far as it is UTF-8.
    pub name: String,
    /// Address that it is linked for, 0 when it is not loaded.
    pub address: u64,
    /// Where it is in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// `SHF_COMPRESSED`.
    pub compressed: bool,
}

/// A part of a file.
struct Part<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.min(into.len() as u64) as usize;
        let count = self.file.read_at(&mut into[..wanted], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A mapped program file.
pub struct Image {
    /// What to call it in messages.
    pub name: String,
    file: File,
    map: Mmap,
    /// What it runs on.
    pub machine: Machine,
    /// Address of the first instruction.
    pub entry: u64,
    /// Position-independent: its addresses are relative to where it is loaded.
    pub pie: bool,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    /// Table of relocations, address and bytes.
    relocations: Option<(u64, u64)>,
}

impl Image {
    /// Opens the program that a process runs.
    pub fn of_process(pid: u32) -> Result<Self, GoError> {
        let path = PathBuf::from(format!("/proc/{pid}/exe"));
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if !PathBuf::from(format!("/proc/{pid}")).exists() => {
                GoError::NoProcess(pid)
            }
            io::ErrorKind::NotFound => GoError::NoProgram(pid),
            io::ErrorKind::PermissionDenied => GoError::Denied { pid, source },
            // A process that ended between the two.
            _ if source.raw_os_error() == Some(libc::ESRCH) => GoError::NoProcess(pid),
            _ => GoError::Read {
                path: path.clone(),
                source,
            },
        })?;
        let name = std::fs::read_link(&path).map_or_else(
            |_| format!("the program of process {pid}"),
            |target| target.display().to_string(),
        );
        Self::new(name, file)
    }

    /// Maps an open file.
    pub fn new(name: String, file: File) -> Result<Self, GoError> {
        // SAFETY: a read-only private mapping. The kernel refuses writes to a
        // program that runs (ETXTBSY), so its bytes stay as they are; every
        // read is bounded by the mapping.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| GoError::Read {
            path: PathBuf::from(&name),
            source,
        })?;
        // Few pages of it are looked at; what lies around them is not wanted.
        let _ = map.advise(Advice::Random);
        let parsed = Parsed::new(&map).map_err(|why| match why {
            Unfit::Elf(why) => GoError::Elf {
                program: name.clone(),
                why,
            },
            Unfit::Machine(machine) => GoError::Machine {
                program: name.clone(),
                machine,
            },
        })?;
        Ok(Self {
            name,
            file,
            map,
            machine: parsed.machine,
            entry: parsed.entry,
            pie: parsed.pie,
            segments: parsed.segments,
            sections: parsed.sections,
            relocations: parsed.relocations,
        })
    }

    /// The open file, which stays that of the process whatever is done to its
    /// path.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Parts of the file that are loaded.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The first section of this name that has bytes.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| section.name == name && section.size > 0)
    }

    /// What is in a section's place in the file.
    pub fn contents(&self, section: &Section) -> &[u8] {
        slice(&self.map, section.offset, section.size).unwrap_or_default()
    }

    /// The same from `skip` bytes on, read with a buffer, so that a large section does
    /// not become resident.
    pub fn reader(&self, section: &Section, skip: u64) -> impl Read + '_ {
        let skip = skip.min(section.size);
        BufReader::with_capacity(
            BUFFER,
            Part {
                file: &self.file,
                offset: section.offset.saturating_add(skip),
                left: section.size - skip,
            },
        )
    }

    /// The bytes from an address to the end of its segment.
    pub fn at(&self, address: u64) -> Option<&[u8]> {
        let segment = self.segment(address)?;
        let skip = address - segment.address;
        slice(&self.map, segment.offset + skip, segment.size - skip)
    }

    /// Where in the file an address is.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let segment = self.segment(address)?;
        Some(segment.offset + (address - segment.address))
    }

    fn segment(&self, address: u64) -> Option<&Segment> {
        self.segments
            .iter()
            .find(|segment| address >= segment.address && address - segment.address < segment.size)
    }

    /// Calls `found` with every multiple of `step` bytes in a segment at which
    /// there are `step` bytes that `wanted` likes, until it returns true. Reads
    /// with a buffer, so that a large segment does not become resident.
    pub fn scan(
        &self,
        segment: &Segment,
        wanted: [u8; 8],
        mask: [bool; 8],
        mut found: impl FnMut(u64) -> bool,
    ) -> io::Result<()> {
        const STEP: usize = 8;
        let mut buffer = vec![0; BUFFER];
        let mut done = 0;
        while done < segment.size {
            let size = (segment.size - done).min(buffer.len() as u64) as usize;
            self.file
                .read_exact_at(&mut buffer[..size], segment.offset + done)?;
            for (index, word) in buffer[..size].chunks_exact(STEP).enumerate() {
                let fits = (0..STEP).all(|byte| !mask[byte] || word[byte] == wanted[byte]);
                if fits && found(segment.address + done + (index * STEP) as u64) {
                    return Ok(());
                }
            }
            done += size as u64;
        }
        Ok(())
    }

    /// Relocations that add the load address to a number: the place and the
    /// number. Position-independent programs keep their pointers there.
    pub fn relative_relocations(&self) -> impl Iterator<Item = (u64, u64)> {
        let wanted = match self.machine {
            Machine::Amd64 => elf::R_X86_64_RELATIVE,
            Machine::Arm64 => elf::R_AARCH64_RELATIVE,
        };
        let bytes = self
            .relocations
            .and_then(|(address, size)| self.at(address)?.get(..size as usize))
            .unwrap_or_default();
        let count = bytes.len() / size_of::<elf::Rela64<LittleEndian>>();
        let entries = object::slice_from_bytes::<elf::Rela64<LittleEndian>>(bytes, count);
        let entries = entries.map_or(&[][..], |(entries, _)| entries);
        entries
            .iter()
            .filter(move |entry| entry.r_type(LittleEndian, false) == wanted)
            .map(|entry| {
                let addend = entry.r_addend(LittleEndian);
                (entry.r_offset(LittleEndian), addend as u64)
            })
    }
}

enum Unfit {
    Elf(&'static str),
    Machine(u16),
}

struct Parsed {
    machine: Machine,
    entry: u64,
    pie: bool,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    relocations: Option<(u64, u64)>,
}

impl Parsed {
    fn new(data: &[u8]) -> Result<Self, Unfit> {
        if data.get(..4) != Some(b"\x7fELF") {
            return Err(Unfit::Elf("it is no ELF file (a script, perhaps)"));
        }
        if data.get(4..6) != Some(&[elf::ELFCLASS64, elf::ELFDATA2LSB]) {
            return Err(Unfit::Elf("it is not 64 bits wide and little-endian"));
        }
        let header = Header::parse(data).map_err(|_| Unfit::Elf("its ELF header is damaged"))?;
        let endian = LittleEndian;
        let machine = match header.e_machine(endian) {
            elf::EM_X86_64 => Machine::Amd64,
            elf::EM_AARCH64 => Machine::Arm64,
            other => return Err(Unfit::Machine(other)),
        };
        let programs = header
            .program_headers(endian, data)
            .map_err(|_| Unfit::Elf("its program headers are damaged"))?;
        let programs = &programs[..programs.len().min(MAX_SEGMENTS)];
        let segments = programs
            .iter()
            .filter(|program| program.p_type(endian) == elf::PT_LOAD)
            .map(|program| Segment {
                address: program.p_vaddr(endian),
                offset: program.p_offset(endian),
                size: program.p_filesz(endian),
                writable: program.p_flags(endian) & elf::PF_W != 0,
                executable: program.p_flags(endian) & elf::PF_X != 0,
            })
            // A segment that is not in the file, or wraps around, is a lie.
            .filter(|segment| {
                slice(data, segment.offset, segment.size).is_some()
                    && segment.address.checked_add(segment.size).is_some()
            })
            .collect();
        let relocations = programs
            .iter()
            .find_map(|program| program.dynamic(endian, data).ok().flatten())
            .and_then(relocations);
        Ok(Self {
            machine,
            entry: header.e_entry(endian),
            pie: header.e_type(endian) == elf::ET_DYN,
            segments,
            sections: sections(header, data),
            relocations,
        })
    }
}

/// `DT_RELA` and `DT_RELASZ`.
fn relocations(entries: &[elf::Dyn64<LittleEndian>]) -> Option<(u64, u64)> {
    let value = |tag: i64| {
        entries
            .iter()
            .find(|entry| entry.d_tag(LittleEndian) == tag)
            .map(|entry| entry.d_val(LittleEndian))
    };
    Some((value(DT_RELA)?, value(DT_RELASZ)?))
}

/// `elf.h`.
const DT_RELA: i64 = 7;
/// `elf.h`.
const DT_RELASZ: i64 = 8;

/// None when the headers are damaged or stripped away: programs run without.
fn sections(header: &Header, data: &[u8]) -> Vec<Section> {
    let endian = LittleEndian;
    let Ok(table) = header.sections(endian, data) else {
        return Vec::new();
    };
    table
        .iter()
        .take(MAX_SECTIONS)
        .filter(|section| section.sh_type(endian) != elf::SHT_NOBITS)
        .map(|section| Section {
            name: table
                .section_name(endian, section)
                .ok()
                .and_then(|name| str::from_utf8(name).ok())
                .unwrap_or_default()
                .to_owned(),
            address: section.sh_addr(endian),
            offset: section.sh_offset(endian),
            size: section.sh_size(endian),
            compressed: section.sh_flags(endian) & u64::from(elf::SHF_COMPRESSED) != 0,
        })
        .collect()
}

fn slice(data: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    data.get(start..end)
}
