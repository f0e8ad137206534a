//! The virtual machine itself.

use std::{
    fmt::Write as _,
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    child::Child,
    virtiofsd,
    wire::{PORT, SHARE},
};

/// How long the two daemons may take to open their sockets.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Arguments for every kernel: few messages but all warnings (an oops is one), on the serial
/// line; end at a panic instead of rebooting; nothing that only costs time under emulation; the
/// clock that is cheapest to read, which 6.1 would otherwise distrust.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic \
    mitigations=off random.trust_cpu=on tsc=reliable";

/// What makes one machine differ from another.
pub struct Configuration<'a> {
    /// The kernel to boot.
    pub image: &'a Path,
    /// Its initramfs.
    pub initramfs: &'a [u8],
    /// More arguments for the kernel.
    pub append: &'a str,
    /// How much memory it gets.
    pub memory_mib: u32,
    /// How many processors.
    pub processors: u32,
    /// See [`super::Options::count_instructions`].
    pub count_instructions: bool,
}

/// A running machine; it ends when this is dropped.
pub struct Machine {
    // Dropped in this order: the machine before what it uses.
    qemu: Child,
    _virtiofsd: Child,
    directory: ScratchDirectory,
}

impl Machine {
    /// Boots, and returns the stream on which the guest will send its frames.
    pub fn boot(configuration: &Configuration) -> Result<(Self, UnixStream)> {
        let directory = ScratchDirectory::new()?;
        let share = directory.path("share");
        let frames = directory.path("frames");
        let initramfs = directory.path("initramfs");
        fs::write(&initramfs, configuration.initramfs)
            .with_context(|| format!("cannot write {}", initramfs.display()))?;

        let log = directory.path("virtiofsd.log");
        let mut virtiofsd = virtiofsd::start(&share, &log)?;
        wait_for(&mut virtiofsd, "open its socket", || {
            share.exists().then_some(())
        })
        .with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("virtiofsd says: {}", log.trim())
        })?;

        let listener = UnixListener::bind(&frames)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .with_context(|| format!("cannot listen on {}", frames.display()))?;
        let mut command = qemu(configuration, &initramfs, &share, &frames);
        command
            .arg("-serial")
            .arg(format!("file:{}", directory.path("console").display()));
        let mut qemu = Child::spawn("qemu-system-x86_64", &mut command)?;
        let stream = wait_for(&mut qemu, "connect", || {
            listener.accept().ok().map(|(stream, _)| stream)
        })?;
        stream
            .set_nonblocking(false)
            .context("cannot make the guest's stream blocking")?;
        let machine = Self {
            qemu,
            _virtiofsd: virtiofsd,
            directory,
        };
        Ok((machine, stream))
    }

    /// How QEMU ended, if it has.
    pub fn ended(&mut self) -> Option<process::ExitStatus> {
        self.qemu.ended()
    }

    /// What the kernel has written to its console so far.
    pub fn console(&self) -> String {
        let text = fs::read(self.directory.path("console")).unwrap_or_default();
        String::from_utf8_lossy(&text).replace('\r', "")
    }
}

fn qemu(configuration: &Configuration, initramfs: &Path, share: &Path, frames: &Path) -> Command {
    let memory = configuration.memory_mib;
    let mut kernel_arguments = KERNEL_ARGUMENTS.to_owned();
    if !configuration.append.is_empty() {
        let _ = write!(kernel_arguments, " {}", configuration.append);
    }
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        // Never KVM, even where there is a /dev/kvm: nested, it hangs more often than it works.
        // One thread for both CPUs: with a thread each, QEMU 7.2 can keep running the breakpoint
        // that the kernel puts on code while it patches it, long after the patch, and the
        // machine hangs (seen when the key of sys_enter was switched on under Linux 6.1).
        .args(["-accel", "tcg,thread=single", "-cpu", "max,la57=off"])
        .args(["-machine", "q35,memory-backend=memory"])
        .args(["-smp", &configuration.processors.to_string()])
        .args(["-m", &format!("{memory}M")])
        // Shared, because virtiofsd reads and writes the guest's memory.
        .args([
            "-object",
            &format!("memory-backend-memfd,id=memory,size={memory}M,share=on"),
        ])
        .arg("-kernel")
        .arg(configuration.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &kernel_arguments])
        .args([
            "-chardev",
            &format!("socket,id=share,path={}", share.display()),
        ])
        .args([
            "-device",
            &format!("vhost-user-fs-pci,chardev=share,tag={SHARE}"),
        ])
        .args(["-device", "virtio-serial-pci"])
        .args([
            "-chardev",
            &format!("socket,id=frames,path={}", frames.display()),
        ])
        .args([
            "-device",
            &format!("virtserialport,chardev=frames,name={PORT}"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if configuration.count_instructions {
        // 2^3 ns for each.
        command.args(["-icount", "shift=3,sleep=on"]);
    }
    command
}

/// Asks `done` until it has an answer, or the child has ended, or it takes too long.
fn wait_for<T>(child: &mut Child, what: &str, mut done: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(answer) = done() {
            return Ok(answer);
        }
        if let Some(status) = child.ended() {
            bail!("{} ended at once with {status}", child.name());
        }
        if Instant::now() > deadline {
            bail!(
                "{} did not {what} within {} s",
                child.name(),
                START_TIMEOUT.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A directory for sockets and the console, removed when dropped.
struct ScratchDirectory(PathBuf);

/// What its name starts with; our pid and a number follow.
const SCRATCH: &str = "injector-vm-";

impl ScratchDirectory {
    fn new() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);

        let temporary = std::env::temp_dir();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_stale(&temporary);
        }
        let path = temporary.join(format!("{SCRATCH}{}-{number}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        // A left-over directory is litter, not an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what processes have left that were killed.
fn remove_stale(temporary: &Path) {
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(owner);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The process whose scratch directory this is.
fn owner(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(SCRATCH)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_directories_are_removed_and_no_others() {
        let directory = ScratchDirectory::new().unwrap();
        let alive = format!("{SCRATCH}{}-77", process::id());
        // Above any pid that Linux gives.
        let names = ["injector-vm-4194305-0", "injector-vm-x-0", "other", &alive];
        for name in names {
            fs::create_dir(directory.path(name)).unwrap();
        }
        fs::write(directory.path(names[0]).join("console"), "text").unwrap();
        remove_stale(&directory.0);
        for name in names {
            assert_eq!(directory.path(name).exists(), name != names[0], "{name}");
        }
    }
}
