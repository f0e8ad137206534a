//! Fetches kernel packages with apt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::abi;
use crate::apt::Apt;

/// The packages of one kernel, on disk.
#[derive(Debug)]
pub struct Packages {
    /// The kernel's release.
    pub release: String,
    /// Where the `.deb` files are.
    pub directory: PathBuf,
}

/// The newest kernel of `series` that was fetched before.
pub fn fetched(series_directory: &Path, series: &str) -> Option<Packages> {
    let packages = packages_directory(series_directory);
    let releases: Vec<String> = fs::read_dir(&packages)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| abi::release_in(&format!("linux-image-{name}"), series).is_some())
        .collect();
    let release = releases.into_iter().max_by(|a, b| abi::compare(a, b))?;
    Some(Packages {
        directory: packages.join(&release),
        release,
    })
}

/// Fetches the newest kernel of `series` from `suites`.
pub fn fetch(series_directory: &Path, series: &str, suites: &[&str]) -> Result<Packages> {
    let apt = Apt::new(suites)?;
    apt.update()?;
    let names = apt.names("linux-")?;
    let release = abi::newest(names.iter().map(String::as_str), series)
        .with_context(|| format!("{} has no such cloud kernel", suites.join(" and ")))?
        .to_owned();
    let all = packages_directory(series_directory);
    let directory = all.join(&release);
    if !directory.exists() {
        // Downloaded aside and moved, so that a directory with its final name is complete.
        let partial = all.join(format!("{release}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("cannot clear {}", partial.display()))?;
        }
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        eprintln!("vm: fetching kernel {release} (20 to 50 MB) …");
        apt.download(&parts(&release, &names), &partial)?;
        fs::rename(&partial, &directory)
            .with_context(|| format!("cannot move {} into place", partial.display()))?;
    }
    Ok(Packages { release, directory })
}

fn packages_directory(series_directory: &Path) -> PathBuf {
    series_directory.join("packages")
}

/// The packages that make up one kernel: from 6.19 on Debian splits the image.
fn parts(release: &str, names: &[String]) -> Vec<String> {
    ["image", "binary", "modules", "base"]
        .iter()
        .map(|part| format!("linux-{part}-{release}"))
        .filter(|package| names.contains(package))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_kernels_have_more_packages() {
        let names = ["image", "binary", "modules", "headers"]
            .map(|part| format!("linux-{part}-7.3.4+deb13-cloud-amd64"));
        assert_eq!(parts("7.3.4+deb13-cloud-amd64", &names), names[..3]);
    }
}
