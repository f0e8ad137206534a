//! Messages that the kernel programs write through aya-log.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("injector: kernel: {}", record.args());
    }

    fn flush(&self) {}
}

/// Prints the messages on stderr as they come, for as long as the runtime runs.
pub fn forward(ebpf: &mut Ebpf) -> Result<()> {
    let logger = EbpfLogger::init_with_logger(ebpf, Stderr)
        .context("cannot read messages of the kernel programs")?;
    // SAFETY: the logger owns its descriptor and stays in the `AsyncFd`.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE)? };
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
