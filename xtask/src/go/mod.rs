//! Go toolchains, and the programs that they build for the tests of
//! injector/src/go.

mod demo;
mod programs;
mod toolchain;

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

pub use demo::demo;
pub use toolchain::Toolchain;

/// The versions that are tested unless others are asked for: the oldest, the
/// last one with a layout of its own and classic maps, the first with Swiss
/// maps, the newest.
pub const DEFAULT: &str = "1.19,1.22,1.24,1.27";

/// Programs that are ready to be looked into.
#[derive(Default)]
pub struct Programs {
    /// A directory for each version.
    pub directory: PathBuf,
    /// The versions that are there, such as `1.24.11`.
    pub versions: Vec<&'static str>,
    /// The versions that are not, and why.
    pub missing: Vec<(&'static str, String)>,
}

impl Programs {
    /// Tells a test program where they are, if there are any.
    pub fn hand_to(&self, command: &mut Command) {
        if !self.versions.is_empty() {
            command
                .env("INJECTOR_GO_PROGRAMS", &self.directory)
                .env("INJECTOR_GO_VERSIONS", self.versions.join(","));
        }
    }
}

/// Reads what `--go` was told: versions such as `1.19,1.24`, or `all`.
pub fn parse(words: &str) -> Result<Vec<&'static Toolchain>> {
    if words == "all" {
        return Ok(toolchain::ALL.iter().collect());
    }
    let find = |word: &str| {
        toolchain::ALL
            .iter()
            .find(|toolchain| toolchain.version == word || toolchain.series() == word)
    };
    words
        .split(',')
        .map(|word| {
            find(word.trim()).with_context(|| {
                let known: Vec<&str> = toolchain::ALL.iter().map(Toolchain::series).collect();
                format!(
                    "there is no Go {word}; known are {} and all",
                    known.join(", ")
                )
            })
        })
        .collect()
}

/// Fetches the toolchains and builds their programs, as far as that is not
/// done. A toolchain that cannot be had is left out, and named.
pub fn prepare(toolchains: &[&'static Toolchain]) -> Result<Programs> {
    let mut programs = Programs {
        directory: programs::directory()?,
        versions: Vec::new(),
        missing: Vec::new(),
    };
    for toolchain in toolchains {
        match toolchain.root() {
            Ok(root) => {
                programs::build(toolchain, &root)?;
                programs.versions.push(toolchain.version);
            }
            Err(error) => programs
                .missing
                .push((toolchain.version, format!("{error:#}"))),
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_by_series_by_number_and_all() {
        let versions = |words| -> Vec<&str> {
            let found = parse(words).unwrap();
            found.iter().map(|toolchain| toolchain.version).collect()
        };
        assert_eq!(versions("1.24"), ["1.24.11"]);
        assert_eq!(versions("1.19.8, 1.27"), ["1.19.8", "1.27.3"]);
        assert_eq!(versions("all").len(), toolchain::ALL.len());
        assert_eq!(versions(DEFAULT).len(), 4);
        assert!(parse("1.18").err().unwrap().to_string().contains("1.19, "));
    }
}
