//! Which Go built a program.

use std::fmt;

/// A Go 1 version, as far as layouts depend on it. Releases within one minor
/// version share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// 24 for Go 1.24.11.
    pub minor: u32,
    /// As the program says it: `go1.24.11 X:noswissmap`.
    pub text: String,
}

impl Version {
    /// Reads what `runtime.buildVersion` holds. Releases say `go1.24.11` or
    /// `go1.25rc1`, builds from source `devel go1.28-abcdef0 Mon …`; what
    /// distributors add comes after.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("go1.")?;
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        Some(Self {
            minor: rest[..end].parse().ok()?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_kind() {
        for (text, minor) in [
            ("go1.19.8", 19),
            ("go1.21", 21),
            ("go1.25rc1", 25),
            ("go1.24.11 X:noswissmap", 24),
            ("go1.22.10 (Red Hat 1.22.10-1.el9)", 22),
            ("devel go1.28-abcdef0 Mon Nov 1 00:00:00 2027 +0000", 28),
        ] {
            assert_eq!(
                Version::parse(text).map(|version| version.minor),
                Some(minor)
            );
        }
        for text in [
            "",
            "go",
            "go2.1",
            "go1.",
            "devel +abcdef",
            "go1.99999999999",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
