//! The memory of a traced process, read while it runs: what is read can change
//! the moment after, and need not make sense.

use std::io::IoSliceMut;

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

/// The memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory(Pid);

impl Memory {
    /// That of a process; whether it can be read turns out with the first read.
    pub fn of(pid: u32) -> Self {
        Self(Pid::from_raw(pid as i32))
    }

    /// Reads as many bytes as there are, up to the first that cannot be read;
    /// how many.
    pub fn read(self, address: u64, into: &mut [u8]) -> usize {
        let remote = RemoteIoVec {
            base: address as usize,
            len: into.len(),
        };
        process_vm_readv(self.0, &mut [IoSliceMut::new(into)], &[remote]).unwrap_or(0)
    }

    /// So many bytes, or none.
    pub fn bytes<const N: usize>(self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.read(address, &mut bytes) == N).then_some(bytes)
    }

    /// Eight bytes as a number.
    pub fn word(self, address: u64) -> Option<u64> {
        self.bytes(address).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_none() {
        let own = Memory::of(std::process::id());
        let words = [1u64, 0x1122_3344_5566_7788];
        let address = words.as_ptr() as u64;
        assert_eq!(own.word(address + 8), Some(words[1]));
        assert_eq!(own.word(8), None);
        assert_eq!(own.word(u64::MAX - 3), None);
    }
}
