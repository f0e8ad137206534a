//! Where downloads and logs are kept between runs: outside the repository.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result};

/// The directory `name` below the cache, created when it is not there yet.
///
/// `INJECTOR_CACHE` names the cache, or else it is `injector` where XDG keeps caches.
pub fn directory(name: &str) -> Result<PathBuf> {
    let directory = root()?.join(name);
    fs::create_dir_all(&directory).with_context(|| {
        format!(
            "cannot create {}; set INJECTOR_CACHE to a directory that can be written to",
            directory.display()
        )
    })?;
    Ok(directory)
}

fn root() -> Result<PathBuf> {
    let from = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty());
    from("INJECTOR_CACHE")
        .map(PathBuf::from)
        .or_else(|| from("XDG_CACHE_HOME").map(|base| PathBuf::from(base).join("injector")))
        .or_else(|| from("HOME").map(|home| PathBuf::from(home).join(".cache/injector")))
        .context("no place for the cache: set INJECTOR_CACHE or HOME")
}
