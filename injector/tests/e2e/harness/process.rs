//! Other processes, as `/proc` shows them.

use std::fs::{read_dir, read_to_string};

/// Name, state and parent of a thread; none when it is gone.
#[derive(Debug)]
pub struct Status {
    /// Its name.
    pub comm: String,
    /// Its state, a letter.
    pub state: char,
    /// Its parent.
    pub parent: u32,
}

impl Status {
    /// That of a process.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(&format!("/proc/{pid}/stat"))
    }

    fn read(path: &str) -> Option<Self> {
        let stat = read_to_string(path).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let mut fields = tail.split(' ');
        Some(Self {
            comm: head.split_once('(')?.1.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
        })
    }
}

/// Ids of what is below this directory of `/proc`.
fn ids(directory: &str) -> Vec<u32> {
    read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The child of a process that has this name.
pub fn child_of(parent: u32, comm: &str) -> Option<u32> {
    ids("/proc").into_iter().find(|pid| {
        Status::of(*pid).is_some_and(|status| status.parent == parent && status.comm == comm)
    })
}

/// Whether a process with this name still runs under this id.
pub fn is_there(pid: u32, comm: &str) -> bool {
    Status::of(pid).is_some_and(|status| status.comm == comm && status.state != 'Z')
}

/// The threads of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    ids(&format!("/proc/{pid}/task"))
}

/// States of the threads of a process.
pub fn states(pid: u32) -> String {
    threads(pid)
        .into_iter()
        .filter_map(|thread| Status::read(&format!("/proc/{pid}/task/{thread}/stat")))
        .map(|status| status.state)
        .collect()
}
