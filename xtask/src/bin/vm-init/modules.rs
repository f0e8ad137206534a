//! Loads the modules that came in the initramfs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{sys, wire::MODULES_PATH};

/// Loads all of them in the order of their names, and returns a message for each that failed:
/// the ones that we cannot do without are missed soon enough.
pub fn load() -> Vec<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(format!("/{MODULES_PATH}"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| load_one(file).err())
        .collect()
}

fn load_one(path: &Path) -> Result<(), String> {
    File::open(path)
        .and_then(|file| sys::load_module(&file))
        .map_err(|error| format!("cannot load {}: {error}", path.display()))
}
