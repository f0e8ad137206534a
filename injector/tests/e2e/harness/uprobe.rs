//! A uprobe of somebody else's, as any tracer on the host attaches them.

use std::{
    ffi::CString,
    fs::{self, read_to_string},
    os::fd::{FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use super::programs;

/// `PERF_FLAG_FD_CLOEXEC` in `include/uapi/linux/perf_event.h`.
const CLOSE_ON_EXEC: u64 = 1 << 3;

/// An attached one; where it is hit, nothing listens.
pub struct Uprobe(OwnedFd);

impl Uprobe {
    /// Attaches to where a test program starts.
    pub fn attach(program: &str) -> Self {
        let path = programs::path(program);
        let offset = entry(&fs::read(&path).expect("a test program"));
        let path = CString::new(path.to_str().expect("a path in UTF-8")).expect("a path");
        let kind = read_to_string("/sys/bus/event_source/devices/uprobe/type")
            .expect("a kernel with uprobes")
            .trim()
            .parse::<u64>()
            .expect("a number");
        // `struct perf_event_attr` up to config2 [include/uapi/linux/perf_event.h]:
        // type and size, config, period, sample type, read format, flags, wakeup
        // and breakpoint type, path, offset.
        let attributes: [u64; 9] = [
            kind | ((size_of::<[u64; 9]>() as u64) << 32),
            0,
            0,
            0,
            0,
            0,
            0,
            path.as_ptr() as u64,
            offset,
        ];
        // SAFETY: attributes and path outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                attributes.as_ptr(),
                -1,
                0,
                -1,
                CLOSE_ON_EXEC,
            )
        };
        let error = std::io::Error::last_os_error();
        assert!(fd >= 0, "perf_event_open: {error}");
        // SAFETY: a new descriptor that nobody else has.
        Self(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// Detaches it; how long that takes.
    pub fn detach(self) -> Duration {
        let start = Instant::now();
        drop(self.0);
        start.elapsed()
    }
}

/// The file offset of the entry point of a 64-bit ELF file [elf(5)].
fn entry(file: &[u8]) -> u64 {
    let number = |at: usize, size: usize| {
        file[at..at + size]
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    };
    let (start, headers) = (number(24, 8), number(32, 8) as usize);
    let (size, count) = (number(54, 2) as usize, number(56, 2) as usize);
    (0..count)
        .map(|index| headers + index * size)
        .filter(|at| number(*at, 4) == u64::from(libc::PT_LOAD))
        .map(|at| (number(at + 8, 8), number(at + 16, 8), number(at + 32, 8)))
        .find(|(_, address, length)| (*address..address + length).contains(&start))
        .map(|(offset, address, _)| start - address + offset)
        .expect("a segment with the entry point")
}
