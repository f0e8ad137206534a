//! Turns a kernel's packages into what QEMU boots.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Kernel, archive::Packages, bzimage, modules};

/// Moves when the layout of a prepared kernel changes.
const LAYOUT: &str = "1";

/// Unpacks `packages`, once, and describes the result.
pub fn prepare(series_directory: &Path, packages: &Packages) -> Result<Kernel> {
    let release = &packages.release;
    let ready = series_directory.join(release);
    let recipe = format!("{LAYOUT} {}", modules::recipe());
    if fs::read_to_string(ready.join("recipe")).ok().as_deref() != Some(&recipe) {
        let partial = series_directory.join(format!("{release}.partial"));
        for stale in [&partial, &ready] {
            remove(stale)?;
        }
        unpack(packages, &partial)?;
        write(&partial.join("recipe"), recipe.as_bytes())?;
        fs::rename(&partial, &ready)
            .with_context(|| format!("cannot move {} into place", partial.display()))?;
    }
    let version = ready.join("version");
    let debian_version = fs::read_to_string(&version)
        .with_context(|| format!("cannot read {}", version.display()))?;
    Ok(Kernel {
        release: release.clone(),
        debian_version,
        image: ready.join("image"),
        modules: ready.join("modules"),
    })
}

fn unpack(packages: &Packages, ready: &Path) -> Result<()> {
    let root = ready.join("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let debs = debs(&packages.directory)?;
    for deb in &debs {
        dpkg_deb(&["--extract"], deb, Some(&root))?;
    }
    let version = dpkg_deb(&["--field"], &debs[0], Some(Path::new("Version")))?;
    write(&ready.join("version"), version.trim().as_bytes())?;

    let image = find_image(&root, &packages.release)?;
    let image = fs::read(&image).with_context(|| format!("cannot read {}", image.display()))?;
    let image = bzimage::vmlinux(&image).unwrap_or(image);
    write(&ready.join("image"), &image)?;

    let directory = ready.join("modules");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let tree = one_of(&[
        root.join("usr/lib/modules").join(&packages.release),
        root.join("lib/modules").join(&packages.release),
    ])?;
    for (index, module) in modules::pick(&tree)?.iter().enumerate() {
        // Numbered, so that their names tell in which order to load them.
        let name = format!("{index:02}-{}.ko", module.name);
        write(&directory.join(name), &module.contents)?;
    }
    // 100 MB of modules that no test asks for.
    remove(&root)
}

fn debs(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut debs: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    debs.sort();
    ensure!(
        !debs.is_empty(),
        "no packages in {}: remove it, and they are fetched again",
        directory.display()
    );
    Ok(debs)
}

fn dpkg_deb(action: &[&str], deb: &Path, argument: Option<&Path>) -> Result<String> {
    let output = Command::new("dpkg-deb")
        .args(action)
        .arg(deb)
        .args(argument)
        .output()
        .context("cannot run dpkg-deb, which unpacks kernels")?;
    ensure!(
        output.status.success(),
        "dpkg-deb cannot read {}: {}; remove its directory, and it is fetched again",
        deb.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn find_image(root: &Path, release: &str) -> Result<PathBuf> {
    one_of(&[
        root.join(format!("boot/vmlinuz-{release}")),
        // Where it is since Debian splits the packages.
        root.join("usr/lib/modules").join(release).join("vmlinuz"),
    ])
}

fn one_of(candidates: &[PathBuf]) -> Result<PathBuf> {
    match candidates.iter().find(|candidate| candidate.exists()) {
        Some(found) => Ok(found.clone()),
        None => bail!(
            "the kernel's packages have a new layout: none of {} is there",
            candidates
                .iter()
                .map(|candidate| candidate.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
