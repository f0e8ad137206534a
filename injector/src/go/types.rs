//! Names of types, from the type data that Go's linker writes into every
//! program, stripped ones too.
//!
//! Sources: Go's internal/abi/type.go (`Type`, `Name`; before Go 1.21
//! runtime/type.go and reflect/type.go), the same from Go 1.19 to 1.27.

use super::{
    bytes::{i32, u64, varint},
    layout::Field,
    loaded::Loaded,
    memory::Memory,
};

/// `Type.TFlag`.
const FLAGS_AT: usize = 20;
/// `TFlagExtraStar`: the name has a star in front that is not the type's.
const EXTRA_STAR: u8 = 1 << 1;
/// `Type.Kind_`.
const KIND_AT: usize = 23;
/// The bits of it that are the kind.
const KIND_MASK: u8 = 0x1f;
/// `abi.Map`.
const MAP: u8 = 21;
/// Bytes of a map's type up to the end of its element's type.
const SIZE: usize = 64;
/// Longest name that is believed, in bytes.
const LONGEST: u64 = 1024;
/// Types within types that are followed, for those that have no name of their
/// own.
const DEEPEST: u32 = 4;

/// The name of a map's type, such as `map[string]*main.Order`, by the type's
/// address in the process.
pub fn map_name(loaded: &Loaded, memory: Memory, address: u64) -> Option<String> {
    let bytes = head(loaded, memory, address)?;
    (bytes[KIND_AT] & KIND_MASK == MAP).then_some(())?;
    name(loaded, memory, address, DEEPEST)
}

fn name(loaded: &Loaded, memory: Memory, address: u64, depth: u32) -> Option<String> {
    let bytes = head(loaded, memory, address)?;
    let offset = |field| loaded.program().offsets.get(field);
    let at = usize::try_from(offset(Field::TypeName)?).ok()?;
    if let Some(own) = own_name(loaded, i32(&bytes, at)?) {
        let star = bytes[FLAGS_AT] & EXTRA_STAR != 0;
        return Some(match own.strip_prefix('*').filter(|_| star) {
            Some(rest) => rest.to_owned(),
            None => own.to_owned(),
        });
    }
    // Made by `reflect.MapOf` while the program runs.
    (bytes[KIND_AT] & KIND_MASK == MAP).then_some(())?;
    let part = |field| {
        let at = usize::try_from(offset(field)?).ok()?;
        name(loaded, memory, u64(&bytes, at)?, depth.checked_sub(1)?)
    };
    let (key, element) = (part(Field::MapTypeKey)?, part(Field::MapTypeElement)?);
    Some(format!("map[{key}]{element}"))
}

/// The beginning of a type: from the file, where only pointers await
/// relocation, and types there have names of their own; those that are made
/// while the program runs are only in memory.
fn head(loaded: &Loaded, memory: Memory, address: u64) -> Option<[u8; SIZE]> {
    let file = loaded.program().image().at(loaded.linked(address));
    match file.and_then(<[u8]>::first_chunk) {
        Some(bytes) => Some(*bytes),
        None => memory.bytes(address),
    }
}

/// A name of the program's type data; negative offsets are of names that were
/// made while it runs.
fn own_name(loaded: &Loaded, offset: i32) -> Option<&str> {
    let offset = u64::try_from(offset).ok().filter(|offset| *offset > 0)?;
    let start = loaded.program().types()?.checked_add(offset)?;
    read(loaded.program().image().at(start)?)
}

/// `abi.Name`: flags, length, text.
fn read(bytes: &[u8]) -> Option<&str> {
    let (length, size) = varint(bytes.get(1..)?)?;
    (length > 0 && length <= LONGEST).then_some(())?;
    let text = bytes.get(1 + size..)?.get(..length as usize)?;
    str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_flags_and_a_length_before_them() {
        assert_eq!(read(b"\x01\x03int..."), Some("int"));
        let long = [&[0, 0x80, 1][..], &[b'x'; 200]].concat();
        assert_eq!(read(&long).map(str::len), Some(128));
        assert_eq!(read(b"\x01\x09int"), None);
        assert_eq!(read(b"\x01\x00"), None);
        assert_eq!(read(b"\x01"), None);
        // Longer than any that is believed.
        assert_eq!(read(&[&[0, 0x81, 8][..], &[b'x'; 2000]].concat()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_name_or_none(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
