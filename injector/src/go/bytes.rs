//! Words and strings of untrusted bytes. Everything that is read here is
//! little-endian: so are both machines that are supported.

/// The four bytes at `at`.
pub fn u32(bytes: &[u8], at: usize) -> Option<u32> {
    chunk(bytes, at).map(u32::from_le_bytes)
}

/// The four bytes at `at`, signed.
pub fn i32(bytes: &[u8], at: usize) -> Option<i32> {
    chunk(bytes, at).map(i32::from_le_bytes)
}

/// The eight bytes at `at`.
pub fn u64(bytes: &[u8], at: usize) -> Option<u64> {
    chunk(bytes, at).map(u64::from_le_bytes)
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The bytes from `at` up to the next NUL, if that is at most `longest` away.
pub fn until_nul(bytes: &[u8], at: usize, longest: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let window = &rest[..rest.len().min(longest.saturating_add(1))];
    let end = window.iter().position(|&byte| byte == 0)?;
    Some(&window[..end])
}

/// An unsigned number in groups of seven bits, lowest first (Go's
/// encoding/binary/varint.go, `Uvarint`), and how many bytes it took.
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let shifted = u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        value |= shifted;
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_none() {
        assert_eq!(u32(&[1, 0, 0, 0, 2], 0), Some(1));
        assert_eq!(u32(&[1, 0, 0, 0, 2], 2), None);
        assert_eq!(u64(&[1; 8], usize::MAX), None);
    }

    #[test]
    fn strings_end_at_nul_or_are_none() {
        assert_eq!(until_nul(b"ab\0c", 0, 9), Some(&b"ab"[..]));
        assert_eq!(until_nul(b"ab\0c", 0, 2), Some(&b"ab"[..]));
        assert_eq!(until_nul(b"ab\0c", 0, 1), None);
        assert_eq!(until_nul(b"ab\0c", 3, 9), None);
        assert_eq!(until_nul(b"ab\0c", 9, 9), None);
    }

    #[test]
    fn varints() {
        assert_eq!(varint(&[0x96, 0x01, 7]), Some((150, 2)));
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(varint(&[0xff; 12]), None);
    }
}
