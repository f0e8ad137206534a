//! From the ring buffers to typed events, in the order in which the kernel side
//! wrote them.

mod ordered;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use injector_ebpf::{
    LifecycleEvent, SendRecord, SendStack,
    go::{EventRecord, FatalRecord},
};

pub use ordered::{Ordered, SETTLED_NS};

/// A plain record of the ABI that can be copied out of a ring buffer.
///
/// # Safety
///
/// The type is `#[repr(C)]`, made of integers only, without padding.
unsafe trait Record: Copy {}

// SAFETY: see `injector_ebpf::record`, whose tests assert the layout.
unsafe impl Record for SendRecord {}
// SAFETY: as above.
unsafe impl Record for SendStack {}
// SAFETY: as above.
unsafe impl Record for LifecycleEvent {}
// SAFETY: see `injector_ebpf::go`, whose tests assert the layout.
unsafe impl Record for FatalRecord {}
// SAFETY: as above.
unsafe impl Record for EventRecord {}

/// The records of one ring buffer.
pub struct Events<T> {
    ring: RingBuf<MapData>,
    record: std::marker::PhantomData<T>,
}

#[allow(
    private_bounds,
    reason = "sealed: only records of the ABI come out of a ring"
)]
impl<T: Record> Events<T> {
    /// Reads this ring.
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self {
            ring,
            record: std::marker::PhantomData,
        }
    }

    /// Hands every record that is there to `each`, at most `limit` of them so
    /// that other work gets its turn. Returns how many there were.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&T) -> Result<()>) -> Result<usize> {
        let mut count = 0;
        while count < limit {
            let Some(item) = self.ring.next() else {
                break;
            };
            let record = read(&item).context("a record of the kernel side has the wrong size")?;
            count += 1;
            each(&record)?;
        }
        Ok(count)
    }
}

fn read<T: Record>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, and any bytes are a valid `T` by its trait.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}

impl<T> AsFd for Events<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl<T> AsRawFd for Events<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_records_are_refused() {
        assert!(read::<LifecycleEvent>(&[0; 15]).is_none());
        let event = read::<LifecycleEvent>(&[7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(event.map(|event| (event.tgid, event.kind)), Some((7, 2)));
    }
}
