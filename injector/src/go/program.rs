//! What a Go program is: everything that is known of it before anything is
//! attached.

use std::collections::HashMap;

use super::{
    buildinfo::BuildInfo,
    dwarf,
    error::GoError,
    image::{Image, Machine},
    layout::Field,
    maps::MapKind,
    offsets::Offsets,
    pclntab::{Frame, Unfit},
    probes::{self, Place, Probe},
    site::{self, Site},
    symbols::{self, Extent, Places, Symbols},
    version::Version,
};

/// First function of the Go runtime, which the kernel or the dynamic loader
/// jumps to when Go's own linker made the program.
const ENTRY_PREFIX: &str = "_rt0_";
/// A function that every program with C code has (`runtime/cgo/asm_amd64.s`).
const CGO_WITNESS: &str = "crosscall2";

/// Probes on the returns of one function: more are not worth it.
const MOST_RETURNS: usize = 16;

/// A Go program.
pub struct Program {
    image: Image,
    build: BuildInfo,
    /// Which Go built it; none when it does not say.
    pub version: Option<Version>,
    places: Places,
    /// How many functions it has.
    pub functions: usize,
    /// Which maps it has; none when it has neither.
    pub maps: Option<MapKind>,
    /// It has C code, through cgo.
    pub cgo: bool,
    /// It was linked by the system's linker.
    pub external: bool,
    /// Where the runtime keeps what.
    pub offsets: Offsets,
    /// Every probe that it has a function for.
    pub sites: Vec<Sited>,
}

/// The bit of a map's header that says that it is being written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritingBit {
    /// Its byte.
    pub offset: u32,
    /// Its value there.
    pub mask: u8,
}

/// A probe and its place.
pub struct Sited {
    /// The row of the table.
    pub probe: &'static Probe,
    /// Where it goes.
    pub at: Placement,
}

/// A place for a probe, or why there is none.
pub enum Placement {
    /// An instruction, and where in the file it is: what a probe is attached to.
    Site {
        /// The instruction.
        site: Site,
        /// Where it is in the function, in bytes.
        into: u64,
        /// Where it is in the program's file, in bytes.
        offset: u64,
        /// Function, file and line.
        frame: Option<Frame>,
    },
    /// No place, and why.
    Nowhere(&'static str),
}

impl Program {
    /// Looks into the program that a process runs.
    pub fn of_process(pid: u32) -> Result<Self, GoError> {
        Self::new(Image::of_process(pid)?)
    }

    /// Looks into a program.
    pub fn new(image: Image) -> Result<Self, GoError> {
        let build = BuildInfo::of(&image);
        let version = build
            .as_ref()
            .and_then(|build| Version::parse(&build.version));
        let offsets = Offsets::of(&image, version.as_ref());
        let places = symbols::places(&image, &offsets);
        let places = places.map_err(|why| refusal(&image, build.as_ref(), why))?;
        let damaged = Unfit::Damaged("it changed while it was read");
        let symbols =
            Symbols::new(&image, places).ok_or_else(|| refusal(&image, build.as_ref(), damaged))?;

        let classic = MapKind::Classic.witness();
        let swiss = MapKind::Swiss.witness();
        let names: Vec<&'static str> = probes::names()
            .chain([classic, swiss, CGO_WITNESS])
            .collect();
        let found = symbols.find(&names);
        let maps = match (found.contains_key(classic), found.contains_key(swiss)) {
            (_, true) => Some(MapKind::Swiss),
            (true, false) => Some(MapKind::Classic),
            (false, false) => None,
        };
        let sites = probes::TABLE
            .iter()
            .filter(|probe| probe.maps.is_none() || probe.maps == maps)
            .filter_map(|probe| {
                let function = *found.get(probe.function)?;
                let callee = probe.unless_calls.and_then(|name| found.get(name));
                let counts_twice = callee.is_some_and(|callee| calls(&image, function, *callee));
                (!counts_twice).then_some((probe, function))
            })
            .flat_map(|(probe, function)| {
                let at = probe_places(&image, &symbols, &found, probe, function);
                at.into_iter().map(move |at| Sited { probe, at })
            })
            .collect();
        let starts_in_go = symbols
            .at(image.entry)
            .is_some_and(|(name, _)| name.starts_with(ENTRY_PREFIX));
        Ok(Self {
            functions: symbols.len(),
            cgo: found.contains_key(CGO_WITNESS),
            external: !starts_in_go,
            build: build.unwrap_or_default(),
            image,
            version,
            places,
            maps,
            offsets,
            sites,
        })
    }

    /// The program's file.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// What says that a map is being written to, if it is known where that is:
    /// `hashWriting` in runtime/map.go, `writing` in internal/runtime/maps/map.go.
    pub fn writing_bit(&self) -> Option<WritingBit> {
        let (field, mask) = match self.maps? {
            MapKind::Classic => (Field::ClassicFlags, 4),
            MapKind::Swiss => (Field::SwissWriting, 1),
        };
        let offset = self.offsets.get(field)?;
        Some(WritingBit { offset, mask })
    }

    /// What it runs on.
    pub fn machine(&self) -> Machine {
        self.image.machine
    }

    /// How it was built.
    pub fn build(&self) -> &BuildInfo {
        &self.build
    }

    /// The address that names of types count from, if known.
    pub fn types(&self) -> Option<u64> {
        self.places.types
    }

    /// Whether a function jumps to the start of another one.
    pub fn jumps(&self, from: Extent, to: Extent) -> bool {
        let code = code(&self.image, from);
        site::jumps(self.image.machine, code, from.address, to.address)
    }

    /// Its functions and lines; always there after [`Self::new`].
    pub fn symbols(&self) -> Option<Symbols<'_>> {
        Symbols::new(&self.image, self.places)
    }

    /// It has a symbol table.
    pub fn has_symbols(&self) -> bool {
        self.image.section(".symtab").is_some()
    }

    /// It has debugging information.
    pub fn has_dwarf(&self) -> bool {
        dwarf::is_there(&self.image)
    }

    /// Fields of the runtime's that are not known, so that it cannot be traced.
    pub fn is_traceable(&self) -> bool {
        let missing = self.offsets.missing(self.maps);
        let placed = |sited: &Sited| matches!(sited.at, Placement::Site { .. });
        missing.iter().all(|(usage, _)| !usage.essential) && self.sites.iter().any(placed)
    }
}

/// What to say of a function table that cannot be used.
fn refusal(image: &Image, build: Option<&BuildInfo>, why: Unfit) -> GoError {
    let program = image.name.clone();
    let version = build
        .map(|build| build.version.clone())
        .filter(|version| !version.is_empty());
    match (why, version) {
        (Unfit::Old, version) => GoError::TooOld {
            program,
            version: version.unwrap_or_else(|| "an old Go".to_owned()),
        },
        (Unfit::Damaged(why), Some(version)) => GoError::NoFunctions {
            program,
            version,
            why,
        },
        (Unfit::Damaged(_), None) if build.is_none() => GoError::NotGo { program },
        (Unfit::Damaged(why), None) => GoError::NoFunctions {
            program,
            version: "version unknown".to_owned(),
            why,
        },
    }
}

fn code(image: &Image, function: Extent) -> &[u8] {
    let code = image.at(function.address).unwrap_or_default();
    let size = usize::try_from(function.size).unwrap_or(usize::MAX);
    &code[..code.len().min(size)]
}

/// Whether a function calls another one directly.
pub(super) fn calls(image: &Image, function: Extent, callee: Extent) -> bool {
    let code = code(image, function);
    !site::calls(image.machine, code, function.address, callee).is_empty()
}

/// Where a probe goes: one place, but for returns.
fn probe_places(
    image: &Image,
    symbols: &Symbols<'_>,
    found: &HashMap<&str, Extent>,
    probe: &Probe,
    function: Extent,
) -> Vec<Placement> {
    let code = code(image, function);
    let one = |site: Result<Site, &'static str>| site.map(|site| vec![site]);
    let sites =
        match probe.place {
            Place::Entry => one(site::at_entry(image.machine, code, function.address)
                .ok_or("its first instruction cannot be probed")),
            Place::CallTo(callee) => one(match found.get(callee) {
                None => Err("the function that it should call is not there"),
                Some(callee) => site::at_call(image.machine, code, function.address, *callee)
                    .map_err(|count| match count {
                        0 => "the call that it should have is not there",
                        _ => "it has several calls where one was expected",
                    }),
            }),
            Place::Returns => match site::returns(image.machine, code, function.address) {
                sites if sites.is_empty() => Err("it has no instruction by which it returns"),
                sites if sites.len() > MOST_RETURNS => Err("it returns at too many places"),
                sites => Ok(sites),
            },
        };
    match sites {
        Ok(sites) => sites
            .into_iter()
            .map(|site| placement(image, symbols, function, site))
            .collect(),
        Err(why) => vec![Placement::Nowhere(why)],
    }
}

fn placement(image: &Image, symbols: &Symbols<'_>, function: Extent, site: Site) -> Placement {
    match image.file_offset(site.address) {
        Some(offset) => Placement::Site {
            into: site.address - function.address,
            offset,
            frame: symbols.frames(site.address).pop(),
            site,
        },
        None => Placement::Nowhere("its instruction is not in the file"),
    }
}
