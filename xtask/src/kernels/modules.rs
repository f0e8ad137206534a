//! Picks the modules a guest needs out of a kernel's package.
//!
//! Debian ships no `modules.dep` (a hook makes it at installation), so dependencies come from
//! each module's own `.modinfo`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::elf;

/// What the guest cannot start without, unless it is built in.
const BOOT: &[&str] = &["virtio_pci", "virtio_console", "virtiofs", "overlay"];

/// What tests use. A kernel that lacks one simply goes without.
const TESTS: &[&str] = &[
    "veth",
    "sch_fq",
    "sch_netem",
    "sch_ingress",
    "cls_bpf",
    "tls",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
];

/// A module, ready to be loaded.
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// Its file, uncompressed.
    pub contents: Vec<u8>,
}

/// What decides about the outcome of [`pick`], to know prepared kernels of an older list by.
pub fn recipe() -> String {
    [BOOT, TESTS].concat().join(" ")
}

/// The wanted modules below `root` and all they depend on, each after its dependencies.
pub fn pick(root: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(root, &mut files)?;
    let mut picker = Picker {
        files,
        seen: BTreeSet::new(),
        picked: Vec::new(),
    };
    for name in [BOOT, TESTS].concat() {
        picker.pick(name)?;
    }
    Ok(picker.picked)
}

struct Picker {
    files: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    picked: Vec<Module>,
}

impl Picker {
    fn pick(&mut self, name: &str) -> Result<()> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        // No file: built in, or not in this kernel at all.
        let Some(path) = self.files.get(name) else {
            return Ok(());
        };
        let contents = read(path)?;
        for dependency in dependencies(&contents) {
            self.pick(&dependency)?;
        }
        self.picked.push(Module {
            name: name.to_owned(),
            contents,
        });
        Ok(())
    }
}

fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot list modules in {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let path = entry.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some((stem, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(normalised(stem), path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz")
            .arg("-dc")
            .arg(path)
            .output()
            .context("cannot run xz, which unpacks modules; install xz-utils")?;
        ensure!(
            output.status.success(),
            "xz cannot unpack {}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    } else {
        fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    }
}

fn dependencies(module: &[u8]) -> Vec<String> {
    elf::section(module, ".modinfo")
        .and_then(|modinfo| {
            modinfo
                .split(|byte| *byte == 0)
                .find_map(|field| field.strip_prefix(b"depends="))
        })
        .map(|depends| {
            String::from_utf8_lossy(depends)
                .split(',')
                .filter(|name| !name.is_empty())
                .map(normalised)
                .collect()
        })
        .unwrap_or_default()
}

/// File names and dependency lists do not agree on dashes; the kernel has only underscores.
fn normalised(name: &str) -> String {
    name.replace('-', "_")
}
