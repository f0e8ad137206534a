//! One acting injector per host: two would add their delays up, and neither
//! could say what it delivered.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// The lock file. It stays, the lock goes with the process.
const PATH: &str = "/run/injector.lock";

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "another injector (pid {0}) is acting on this host; stop it first \
         (kill -TERM {0}), or use --shadow, which acts on nothing"
    )]
    Held(String),
    /// The file could not be used.
    #[error("cannot use the lock file {PATH}: {0}")]
    Io(#[from] std::io::Error),
}

/// Held for as long as it lives.
#[derive(Debug)]
pub struct ActingLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

impl ActingLock {
    /// Takes the lock or says who has it.
    pub fn take() -> Result<Self, LockError> {
        Self::take_at(Path::new(PATH))
    }

    fn take_at(path: &Path) -> Result<Self, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0)?;
                lock.rewind()?;
                writeln!(lock, "{}", std::process::id())?;
                Ok(Self(lock))
            }
            Err((mut file, nix::errno::Errno::EAGAIN)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Err(LockError::Held(holder.trim().to_owned()))
            }
            Err((_, errno)) => Err(LockError::Io(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_learns_who_has_it() {
        let path = std::env::temp_dir().join(format!("injector-lock-{}", std::process::id()));
        let first = ActingLock::take_at(&path).unwrap();
        let second = ActingLock::take_at(&path).unwrap_err();
        assert!(
            second
                .to_string()
                .contains(&format!("pid {}", std::process::id()))
        );
        drop(first);
        ActingLock::take_at(&path).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
