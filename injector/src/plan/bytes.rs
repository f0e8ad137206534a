//! A number of bytes.

use std::{fmt, str::FromStr};

use super::malformed::Malformed;

/// What [`Bytes::from_str`] accepts.
pub const GRAMMAR: &str = "a whole number, with k, M or G for 1024, 1024² or 1024³: 1500, 64k, 1M";

/// Suffixes by falling size.
const SUFFIXES: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('k', 1 << 10)];

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        read(text.trim()).map_err(|why| Malformed::new("a number of bytes", text, why, GRAMMAR))
    }
}

fn read(text: &str) -> Result<Bytes, &'static str> {
    let suffix = SUFFIXES.iter().find_map(|(suffix, scale)| {
        let number = text.strip_suffix(|c: char| c.eq_ignore_ascii_case(suffix))?;
        Some((number, *scale))
    });
    let (number, scale) = suffix.unwrap_or((text, 1));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is no whole number");
    }
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(scale))
        .map(Bytes)
        .ok_or("it is too large")
}

impl fmt::Display for Bytes {
    /// In the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |scale: u64| self.0 != 0 && self.0.is_multiple_of(scale);
        match SUFFIXES.iter().find(|(_, scale)| whole(*scale)) {
            Some((suffix, scale)) => write!(f, "{}{suffix}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("1500", 1500, "1500"),
            ("64k", 65_536, "64k"),
            ("64K", 65_536, "64k"),
            ("1024k", 1_048_576, "1M"),
            ("1m", 1_048_576, "1M"),
            ("2G", 2_147_483_648, "2G"),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
        for text in ["", "k", "1.5k", "-1", "+1", "1kB", "1T", "99999999999G"] {
            let error = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(error.ends_with(GRAMMAR), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", near in "[0-9]{0,22}[kMG]?") {
            let _ = text.parse::<Bytes>();
            let _ = near.parse::<Bytes>();
        }

        #[test]
        fn shown_reads_back(bytes in any::<u64>(), zeros in 0..64_u32) {
            let bytes = Bytes(bytes >> zeros << zeros);
            prop_assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), bytes);
        }
    }
}
