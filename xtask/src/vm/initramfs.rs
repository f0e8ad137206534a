//! What the guest's kernel finds at first: our init, its modules and its job.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    cpio::Archive,
    wire::{JOB_PATH, Job, MODULES_PATH},
};

/// Builds the initramfs.
pub fn build(init: &Path, modules: &Path, job: &Job) -> Result<Vec<u8>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));

    let mut archive = Archive::default();
    archive.directory("dev");
    // The kernel opens it for init's first three files, before there is a devtmpfs.
    archive.device("dev/console", 5, 1);
    archive.file("init", &read(init)?);
    archive.file(JOB_PATH, &job.encode());
    archive.directory(MODULES_PATH);
    let files =
        fs::read_dir(modules).with_context(|| format!("cannot list {}", modules.display()))?;
    for file in files {
        let file = file.with_context(|| format!("cannot list {}", modules.display()))?;
        let name = file.file_name();
        archive.file(
            &format!("{MODULES_PATH}/{}", name.display()),
            &read(&file.path())?,
        );
    }
    Ok(archive.finish())
}
