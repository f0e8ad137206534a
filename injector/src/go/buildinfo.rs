//! What Go's linker writes about a build: the version and the main package.
//! Format: Go's debug/buildinfo/buildinfo.go.

use super::{
    bytes::{u64, varint},
    image::Image,
};

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Alignment of the header.
const ALIGNMENT: usize = 16;
/// Bytes of the header; strings follow it since Go 1.18.
const HEADER: usize = 32;
/// In the header's flags: the strings follow inline (1.18 and later).
const INLINE: u8 = 2;
/// Longest version that is believed.
const MAX_VERSION: u64 = 256;
/// Longest list of modules and settings that is believed.
const MAX_MODULES: u64 = 16 << 20;
/// Modules with odd paths that are remembered.
const MOST_MODULES: usize = 256;
/// Bytes before and after that list, `infoStart` and `infoEnd` of
/// cmd/go/internal/modload/build.go.
const FRAME: usize = 16;

/// The version and the main package of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// Such as `go1.24.11`; empty when it cannot be read from the file.
    pub version: String,
    /// Package path of the main program.
    pub path: Option<String>,
    /// Paths of modules whose first element has no dot, as those of the
    /// standard library's packages.
    pub modules: Vec<String>,
}

impl BuildInfo {
    /// Finds it in a program.
    pub fn of(image: &Image) -> Option<Self> {
        let section = image.section(".go.buildinfo");
        // Without section headers it is near the start of the data segment.
        let places = section.map(|section| section.address).into_iter().chain(
            image
                .segments()
                .iter()
                .filter(|segment| segment.writable)
                .map(|segment| segment.address),
        );
        places
            .filter_map(|address| image.at(address))
            .find_map(|bytes| Self::parse(bytes, |address| image.at(address)))
    }

    /// Searches the first bytes of a data segment. `at` resolves the addresses
    /// that versions before Go 1.18 wrote instead of the strings.
    fn parse<'a>(bytes: &'a [u8], at: impl Fn(u64) -> Option<&'a [u8]>) -> Option<Self> {
        /// As far as Go's own reader looked until 1.22.
        const WINDOW: usize = 64 << 10;
        let window = &bytes[..bytes.len().min(WINDOW)];
        let start = (0..window.len())
            .step_by(ALIGNMENT)
            .find(|&start| window[start..].starts_with(MAGIC))?;
        let header = bytes.get(start..)?;
        let flags = *header.get(15)?;
        let (version, modules) = if flags & INLINE != 0 {
            let (version, rest) = inline(header.get(HEADER..)?, MAX_VERSION)?;
            let modules = inline(rest, MAX_MODULES).map_or(&[][..], |(modules, _)| modules);
            (version, modules)
        } else {
            let string = |offset| {
                let header = at(u64(header, offset)?)?;
                let length = u64(header, 8)?.min(MAX_MODULES);
                at(u64(header, 0)?)?.get(..length as usize)
            };
            // In a position-independent program the pointers are relocations.
            (
                string(16).unwrap_or_default(),
                string(24).unwrap_or_default(),
            )
        };
        let modules = modules
            .get(FRAME..modules.len().saturating_sub(FRAME))
            .unwrap_or_default();
        // Lines of a word and values, between tabs (runtime/debug/mod.go).
        let path = modules
            .split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(b"path\t"));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Some(Self {
            version: text(version),
            path: path.map(text),
            modules: dotless(modules).take(MOST_MODULES).map(text).collect(),
        })
    }
}

/// Modules of a list whose first element has no dot.
fn dotless(modules: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = modules.split(|&byte| byte == b'\n');
    lines
        .filter_map(|line| line.strip_prefix(b"mod\t").or(line.strip_prefix(b"dep\t")))
        .filter_map(|line| line.split(|&byte| byte == b'\t').next())
        .filter(|path| {
            let first = path.split(|&byte| byte == b'/').next();
            first.is_some_and(|first| !first.contains(&b'.'))
        })
}

/// A string that its length comes before, and what follows.
fn inline(bytes: &[u8], longest: u64) -> Option<(&[u8], &[u8])> {
    let (length, size) = varint(bytes)?;
    if length > longest {
        return None;
    }
    bytes.get(size..)?.split_at_checked(length as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new_format() -> Vec<u8> {
        let mut bytes = vec![0; 32];
        bytes.extend(MAGIC);
        bytes.extend([8, INLINE]);
        bytes.resize(64, 0);
        bytes.push(8);
        bytes.extend(b"go1.24.1");
        let modules = b"0123456789abcdefpath\texample/x\nmod\texample\t(devel)\t\ndep\tx.org/y\tv1\nbuild\tA=1\nfedcba9876543210";
        bytes.push(modules.len() as u8);
        bytes.extend(modules);
        bytes
    }

    /// The header at 0, two Go strings at 32 and 48, their bytes behind.
    fn old_format() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([8, 0]);
        bytes.extend(32u64.to_le_bytes());
        bytes.extend(48u64.to_le_bytes());
        bytes.extend(64u64.to_le_bytes());
        bytes.extend(6u64.to_le_bytes());
        bytes.extend(64u64.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(b"go1.16");
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<BuildInfo> {
        BuildInfo::parse(bytes, |address| bytes.get(address as usize..))
    }

    #[test]
    fn inline_strings() {
        let info = parse(&new_format()).unwrap();
        assert_eq!(info.version, "go1.24.1");
        assert_eq!(info.path.as_deref(), Some("example/x"));
        assert_eq!(info.modules, ["example"]);
    }

    #[test]
    fn pointers_to_strings() {
        let info = parse(&old_format()).unwrap();
        assert_eq!(info.version, "go1.16");
        assert_eq!(info.path, None);
    }

    #[test]
    fn no_build_information() {
        assert_eq!(parse(&[0; 4096]), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn damaged_information_is_read_without_panic(
            old: bool, cut in 0usize..200, at in 0usize..200, byte: u8,
        ) {
            let mut bytes = if old { old_format() } else { new_format() };
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = parse(&bytes);
        }
    }
}
