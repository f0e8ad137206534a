//! Offsets of struct members and names of functions, from the kernel's own type
//! information (BTF; format in `Documentation/bpf/btf.rst`).
//!
//! aya loads with BTF but keeps struct members to itself.

use std::{collections::HashMap, fs, path::Path};

use thiserror::Error;

/// Where the kernel shows its BTF (since 5.4, `CONFIG_DEBUG_INFO_BTF`).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;

/// Why type information could not be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file is not there or cannot be read.
    #[error(
        "cannot read the kernel's type information {path}: {source}; \
         injector needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data breaks the format.
    #[error("the kernel's type information is damaged: {0}")]
    Damaged(&'static str),
    /// The kernel has no such struct.
    #[error("this kernel has no struct {0}")]
    NoStruct(String),
    /// The struct has no such member.
    #[error("struct {0} of this kernel has no member {1}")]
    NoMember(String, String),
}

/// The type information of a kernel.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type record; the id is the index plus one.
    types: Vec<u32>,
}

/// Kinds of `include/uapi/linux/btf.h`.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// A type record without what trails it.
struct Type {
    name: u32,
    kind: u32,
    count: u32,
    bitfields: bool,
    /// Size or referenced type, by kind.
    value: u32,
    trailing: usize,
}

impl Btf {
    /// Reads the running kernel's BTF.
    pub fn from_kernel() -> Result<Self, BtfError> {
        Self::from_file(Path::new(VMLINUX))
    }

    fn from_file(path: &Path) -> Result<Self, BtfError> {
        let data = fs::read(path).map_err(|source| BtfError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(data)
    }

    /// Indexes raw BTF.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        if data.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::Damaged("wrong magic number or byte order"));
        }
        let mut btf = Self {
            data,
            strings: 0,
            types: Vec::new(),
        };
        let header = btf.word(4)? as usize;
        let types = header + btf.word(8)? as usize;
        let types_end = types + btf.word(12)? as usize;
        btf.strings = header + btf.word(16)? as usize;
        if types_end > btf.data.len() || btf.strings > btf.data.len() {
            return Err(BtfError::Damaged("a section lies outside the file"));
        }
        let mut at = types;
        while at < types_end {
            btf.types.push(at as u32);
            let record = btf.record(at)?;
            at = record.trailing + trailing_size(&record);
        }
        Ok(btf)
    }

    /// The byte offset of a member, given as `member` or `member.member`;
    /// members of anonymous structs and unions are found, too.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let mut current = self
            .structure(structure)?
            .ok_or_else(|| BtfError::NoStruct(structure.to_owned()))?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, member) = self
                .member(current, name, 0)?
                .ok_or_else(|| BtfError::NoMember(structure.to_owned(), path.to_owned()))?;
            bits += offset;
            current = self.strip(member)?;
        }
        Ok(bits / 8)
    }

    /// The type ids of those of these kernel functions that the type
    /// information knows.
    pub fn functions<'n>(&self, wanted: &[&'n str]) -> Result<HashMap<&'n str, u32>, BtfError> {
        let mut found = HashMap::new();
        for (index, &at) in self.types.iter().enumerate() {
            let record = self.record(at as usize)?;
            if record.kind == kind::FUNC {
                let name = self.string(record.name);
                if let Some(name) = wanted.iter().find(|wanted| wanted.as_bytes() == name) {
                    found.insert(*name, index as u32 + 1);
                }
            }
        }
        Ok(found)
    }

    /// The type id of a named struct.
    fn structure(&self, name: &str) -> Result<Option<u32>, BtfError> {
        for (index, &at) in self.types.iter().enumerate() {
            let record = self.record(at as usize)?;
            if record.kind == kind::STRUCT && self.string(record.name) == name.as_bytes() {
                return Ok(Some(index as u32 + 1));
            }
        }
        Ok(None)
    }

    /// Bit offset and type of a member. `depth` bounds the descent into
    /// anonymous members of damaged data.
    fn member(&self, id: u32, name: &str, depth: u32) -> Result<Option<(u32, u32)>, BtfError> {
        let record = self.record_of(id)?;
        if depth > 8 || (record.kind != kind::STRUCT && record.kind != kind::UNION) {
            return Ok(None);
        }
        for index in 0..record.count as usize {
            let at = record.trailing + index * 12;
            let member_name = self.string(self.word(at)?);
            let member_type = self.word(at + 4)?;
            let mut offset = self.word(at + 8)?;
            if record.bitfields {
                offset &= 0x00ff_ffff;
            }
            if member_name == name.as_bytes() {
                return Ok(Some((offset, member_type)));
            }
            if member_name.is_empty() {
                let inner = self.member(self.strip(member_type)?, name, depth + 1)?;
                if let Some((inner, found)) = inner {
                    return Ok(Some((offset + inner, found)));
                }
            }
        }
        Ok(None)
    }

    /// Follows typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Result<u32, BtfError> {
        for _ in 0..16 {
            if id == 0 {
                break;
            }
            let record = self.record_of(id)?;
            match record.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::TYPE_TAG => id = record.value,
                _ => break,
            }
        }
        Ok(id)
    }

    fn record_of(&self, id: u32) -> Result<Type, BtfError> {
        let at = (id as usize)
            .checked_sub(1)
            .and_then(|index| self.types.get(index))
            .ok_or(BtfError::Damaged("a type id is out of range"))?;
        self.record(*at as usize)
    }

    fn record(&self, at: usize) -> Result<Type, BtfError> {
        let info = self.word(at + 4)?;
        Ok(Type {
            name: self.word(at)?,
            kind: (info >> 24) & 0x1f,
            count: info & 0xffff,
            bitfields: info >> 31 != 0,
            value: self.word(at + 8)?,
            trailing: at + 12,
        })
    }

    fn word(&self, at: usize) -> Result<u32, BtfError> {
        self.data
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .map(|bytes| u32::from_ne_bytes(*bytes))
            .ok_or(BtfError::Damaged("a record is cut off"))
    }

    fn string(&self, offset: u32) -> &[u8] {
        let rest = self
            .data
            .get(self.strings + offset as usize..)
            .unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow a type record.
fn trailing_size(record: &Type) -> usize {
    let count = record.count as usize;
    match record.kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * count,
        kind::ENUM | kind::FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct outer { int a; struct { int pad; short b; }; struct inner c; }`
    /// with `struct inner { long x; short y; }`, written by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0pad\0b\0inner\0x\0y\0c\0f\0";
        let name = |text: &str| {
            let needle = [text.as_bytes(), b"\0"].concat();
            let found = strings
                .windows(needle.len() + 1)
                .position(|window| window[0] == 0 && window[1..] == needle[..]);
            found.map_or(0, |at| at as u32 + 1)
        };
        let mut types: Vec<u32> = Vec::new();
        let structure = |count: u32| kind::STRUCT << 24 | count;
        // 1: int
        types.extend([0, kind::INT << 24, 4, 0x0100_0020]);
        // 2: anonymous struct
        types.extend([0, structure(2), 8, name("pad"), 1, 0, name("b"), 1, 32]);
        // 3: inner
        types.extend([
            name("inner"),
            structure(2),
            16,
            name("x"),
            1,
            0,
            name("y"),
            1,
            64,
        ]);
        // 4: const inner
        types.extend([0, kind::CONST << 24, 3]);
        // 5: outer
        types.extend([name("outer"), structure(3), 40]);
        types.extend([name("a"), 1, 0, 0, 2, 32, name("c"), 4, 128]);
        // 6, 7: int f(void)
        types.extend([0, kind::FUNC_PROTO << 24, 1]);
        types.extend([name("f"), kind::FUNC << 24, 6]);
        let length = types.len() as u32 * 4;
        let mut data = Vec::new();
        data.extend(MAGIC.to_ne_bytes());
        data.extend([1, 0]);
        for word in [24, 0, length, length, strings.len() as u32] {
            data.extend(word.to_ne_bytes());
        }
        data.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        data.extend(strings);
        data
    }

    #[test]
    fn members_are_found_through_anonymous_and_named_structs() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("outer", "a").unwrap(), 0);
        assert_eq!(btf.offset("outer", "b").unwrap(), 8);
        assert_eq!(btf.offset("outer", "c.y").unwrap(), 24);
        assert!(matches!(
            btf.offset("outer", "z"),
            Err(BtfError::NoMember(..))
        ));
        assert!(matches!(
            btf.offset("none", "z"),
            Err(BtfError::NoStruct(_))
        ));
    }

    #[test]
    fn functions_are_found() {
        let btf = Btf::parse(sample()).unwrap();
        let found = btf.functions(&["f", "g"]).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&"f"]);
    }

    proptest! {
        #[test]
        fn damaged_data_is_refused_without_panic(cut in 0usize..400, at in 0usize..400, byte: u8) {
            let mut data = sample();
            let at = at % data.len();
            data[at] = byte;
            data.truncate(cut);
            if let Ok(btf) = Btf::parse(data) {
                let _ = btf.offset("outer", "c.y");
                let _ = btf.functions(&["f"]);
            }
        }
    }
}
