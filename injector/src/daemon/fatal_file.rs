//! Files for fatal errors: whole, or not there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Writes a file in this directory under a name of its own, so that it is there
/// as a whole after whatever happens next: under another name first, then on
/// the disk, then renamed, and that too.
pub fn write(
    directory: &Path,
    name: &str,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<PathBuf> {
    let path = directory.join(name);
    put(directory, &path, fill).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn put(
    directory: &Path,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // Not seen by who waits for `*.txt` or `*.json`.
    let mut partial = path.to_owned().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = File::create(&partial).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("injector-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_is_whole() {
        let directory = scratch("fatal-file");
        let path = write(&directory, "fatal-1.txt", |out| out.write_all(b"both")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"both");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn half_a_file_is_none() {
        let directory = scratch("fatal-half");
        let error = write(&directory, "fatal-1.txt", |out| {
            out.write_all(b"bo")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().contains("fatal-1.txt"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(directory).unwrap();
    }
}
