//! The holder: a process that has the server's file in its memory, and waits.
//! Sleeping threads wait for pages of it, so it must not change its own
//! address space after the start: each change waits for all of them.

use std::{
    fs::File,
    io::{Write as _, stdout},
    os::fd::AsFd as _,
    path::Path,
    ptr,
};

use anyhow::{Context as _, Result, ensure};
use injector_ebpf::{SLEEP_SLOTS, SLEEP_STRIDE};
use rustix::{
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap},
    process::{Signal, getppid, set_parent_process_death_signal},
};

/// Bytes of the file: one page for each slot.
pub const FILE_SIZE: usize = SLEEP_SLOTS as usize * SLEEP_STRIDE as usize;

/// Maps the file whose mount is on stdin, writes `PID ADDRESS` to stdout, and
/// waits to be killed.
pub fn run(server: u32) -> Result<u8> {
    rustix::thread::set_name(c"injector-holder")?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    ensure!(
        getppid().is_some_and(|pid| pid.as_raw_nonzero().get() as u32 == server),
        "the server of the sleep engine is gone"
    );
    // The mount's descriptor cannot be read from; its name can be opened.
    let address = map(Path::new("/proc/self/fd/0"))?;
    println!("{} {address}", std::process::id());
    stdout().flush()?;
    loop {
        rustix::event::pause();
    }
}

/// Maps the file into this process's memory, which must not change from then on;
/// where it is.
pub fn map(path: &Path) -> Result<usize> {
    let file = File::open(path).context("cannot open the sleep engine's file")?;
    // The kernel asks for the size when it is wanted, and a mapping never does.
    let size = file.metadata()?.len();
    ensure!(
        size == FILE_SIZE as u64,
        "the sleep engine's file has {size} bytes, not {FILE_SIZE}"
    );
    // SAFETY: a new mapping, at an address of the kernel's choice, that nobody
    // in this process ever reads.
    let address = unsafe {
        let address = mmap(
            ptr::null_mut(),
            FILE_SIZE,
            ProtFlags::READ,
            MapFlags::SHARED,
            file.as_fd(),
            0,
        )
        .context("cannot map the sleep engine's file")?;
        // A fault asks for its own page and no other.
        madvise(address, FILE_SIZE, Advice::Random).context("madvise")?;
        address
    };
    Ok(address as usize)
}
