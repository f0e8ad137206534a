//! The server: answers the reads of sleeping threads when their time has come.
//! One thread, one timer, no memory but the list of who waits.
//!
//! It owns /dev/fuse and nothing of BPF but two maps: a process that holds the
//! device and a uprobe cannot be killed while threads sleep, because the end of
//! the uprobe waits for the sleepers and they wait for the device.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    num::NonZeroU64,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    ptr,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::MapData;
use injector_ebpf::{Control, SLEEP_SLOTS, SLEEP_STRIDE, Sleep};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mm::{MapFlags, ProtFlags, mmap},
    process::{Signal, set_parent_process_death_signal, setsid},
};

use super::{
    BEAT, FAILED, READY,
    fuse::{self, Request},
    holder::FILE_SIZE,
    mount,
    pulse::Pulse,
    queue::Queue,
    wake,
};
use crate::clock;

/// How often interrupted threads are looked at.
const INTERRUPT_TICK_NS: u64 = 10_000_000;
/// How often the lease is looked at while threads sleep.
const LEASE_TICK_NS: u64 = 100_000_000;
/// With so many sleepers, requests that keep coming are read together: at tens of
/// thousands of delays a second, to be woken for each costs more than all else.
/// Answers are given one by one: what comes before its time is a delay cut short.
const MANY: usize = 64;
/// How long requests may wait for each other, in nanoseconds. Delays that are
/// shorter than this do not come here, and the early answer makes up for it.
const TOGETHER_NS: u64 = 100_000;
/// Requests read before due answers get their turn.
const BATCH: usize = 64;

/// Exit status of a server that has told the daemon why there is none.
const NOT_STARTED: u8 = 1;

/// Serves until whoever started us is gone.
pub fn run(sleeps: u32, control: u32) -> Result<u8> {
    match start(sleeps, control) {
        Ok(mut server) => server.serve().map(|()| 0),
        Err(error) => {
            let mut daemon = daemon()?;
            writeln!(daemon, "{FAILED} {error:#}").context("the daemon is gone")?;
            Ok(NOT_STARTED)
        }
    }
}

fn start(sleeps: u32, control: u32) -> Result<Server> {
    rustix::thread::set_name(c"injector-server")?;
    // A hung server dies with the daemon, too.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Ctrl-C and Ctrl-Z in the terminal are for the daemon alone: a stopped
    // server would keep its sleepers.
    setsid().context("cannot start a session")?;
    // Without this, timers are up to 50 µs late on purpose.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let (device, mount) = mount::open()?;
    let holder = start_holder(mount)?;
    prefer();
    Ok(Server {
        device,
        daemon: daemon()?,
        pulse: Pulse::of_parent(),
        holder,
        sleeps: map(sleeps, SLEEP_SLOTS as usize * size_of::<Sleep>())?.cast(),
        control: map(control, size_of::<Control>())?.cast(),
        queue: Queue::default(),
        next_look_ns: 0,
        has_read: false,
    })
}

/// Runs before all that is not urgent: late answers are what the threads that
/// sleep pay for other load. Niceness would not do: with
/// `CONFIG_SCHED_AUTOGROUP` it only counts within a session. Without the right
/// to, it runs as any other.
fn prefer() {
    // SAFETY: all zeros are a valid value.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = 1;
    // SAFETY: sets the policy of this thread; the kernel reads the parameter.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
}

/// The socket to the daemon is our stdin.
fn daemon() -> Result<UnixStream> {
    Ok(UnixStream::from(
        std::io::stdin().as_fd().try_clone_to_owned()?,
    ))
}

/// Whom it serves, and what it knows of them.
struct Server {
    device: File,
    daemon: UnixStream,
    pulse: Option<Pulse>,
    holder: Holder,
    sleeps: *const Sleep,
    control: *const Control,
    queue: Queue,
    next_look_ns: u64,
    /// There were requests when they were last looked for.
    has_read: bool,
}

struct Holder {
    process: Child,
    lines: BufReader<std::process::ChildStdout>,
    is_ready: bool,
}

fn start_holder(mount: OwnedFd) -> Result<Holder> {
    let mut process = Command::new("/proc/self/exe")
        .arg0("injector")
        .args(["sleep-holder", &std::process::id().to_string()])
        .stdin(Stdio::from(mount))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the holder of the sleep engine")?;
    let stdout = process.stdout.take().context("the holder has no stdout")?;
    Ok(Holder {
        process,
        lines: BufReader::new(stdout),
        is_ready: false,
    })
}

/// Maps the value of an array with `BPF_F_MMAPABLE`.
fn map(id: u32, size: usize) -> Result<*const u8> {
    let map = MapData::from_id(id).with_context(|| format!("cannot open the BPF map {id}"))?;
    // SAFETY: a new mapping of memory that the kernel keeps for as long.
    let address = unsafe {
        mmap(
            ptr::null_mut(),
            size,
            ProtFlags::READ,
            MapFlags::SHARED,
            map.fd().as_fd(),
            0,
        )
    };
    Ok(address
        .with_context(|| format!("cannot map the BPF map {id}"))?
        .cast_const()
        .cast())
}

impl Server {
    fn serve(&mut self) -> Result<()> {
        let mut buffer = vec![0; fuse::READ_BUFFER + 4096];
        loop {
            let now = clock::monotonic_ns();
            if self.is_over(now) {
                self.release_all()?;
            }
            if self.pulse.as_mut().is_some_and(|it| !it.beats(now)) {
                return Ok(());
            }
            while let Some(unique) = self.queue.pop_due(now) {
                self.refuse(unique)?;
            }
            if self.queue.has_interrupted() && now >= self.next_look_ns {
                self.look_at_interrupted()?;
            }
            let together = self.is_busy();
            let (timeout, wanted) = if together {
                (self.timeout(TOGETHER_NS), PollFlags::empty())
            } else {
                (self.timeout(LEASE_TICK_NS), PollFlags::IN)
            };
            let mut events = [
                PollFd::new(&self.device, wanted),
                PollFd::new(&self.daemon, PollFlags::IN),
                PollFd::new(self.holder.lines.get_ref(), PollFlags::IN),
            ];
            match poll(&mut events, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.context("cannot wait for events")?,
            };
            let [device, daemon, holder] = events.map(|event| event.revents());
            if !daemon.is_empty() && !self.hear_daemon()? {
                return Ok(());
            }
            if !holder.is_empty() {
                self.hear_holder()?;
            }
            if together || !device.is_empty() {
                self.has_read = false;
                for _ in 0..BATCH {
                    if !self.request(&mut buffer)? {
                        break;
                    }
                    self.has_read = true;
                }
            }
        }
    }

    /// Many sleep, and requests keep coming.
    fn is_busy(&self) -> bool {
        self.has_read && self.queue.len() >= MANY
    }

    /// Whether nobody may sleep: the lease has expired, or the run is over.
    fn is_over(&self, now: u64) -> bool {
        // SAFETY: a mapped value; the daemon writes the word whole.
        now > unsafe { (&raw const (*self.control).lease_ns).read_volatile() }
    }

    /// Until an answer is due, at most this long; for ever while nobody sleeps.
    fn timeout(&mut self, at_most_ns: u64) -> Option<Timespec> {
        let mut until = self.queue.next_due()?;
        let now = clock::monotonic_ns();
        until = until.min(now + at_most_ns);
        if self.queue.has_interrupted() {
            until = until.min(self.next_look_ns);
        }
        let wait = until.saturating_sub(now);
        Some(Timespec {
            tv_sec: (wait / 1_000_000_000) as i64,
            tv_nsec: (wait % 1_000_000_000) as i64,
        })
    }

    /// Lets go whom a signal wants to end or stop.
    fn look_at_interrupted(&mut self) -> Result<()> {
        let start = clock::monotonic_ns();
        let gone: Vec<u64> = self
            .queue
            .interrupted()
            .filter(|(_, tid)| wake::must_go(*tid))
            .map(|(unique, _)| unique)
            .collect();
        for unique in gone {
            self.queue.remove(unique);
            self.refuse(unique)?;
        }
        let end = clock::monotonic_ns();
        // A fifth of the time at most, however many there are.
        self.next_look_ns = end + INTERRUPT_TICK_NS.max(4 * (end - start));
        Ok(())
    }

    /// Reads and handles one message; false when there is none.
    fn request(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let length = match rustix::io::read(&self.device, &mut *buffer) {
            Ok(length) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(false),
            // The request was given up before we took it.
            Err(rustix::io::Errno::NOENT) => return Ok(true),
            Err(error) => bail!("the FUSE connection is gone: {error}"),
        };
        let Some(request) = fuse::parse(&buffer[..length]) else {
            bail!("the kernel sent a FUSE message of {length} bytes that makes no sense");
        };
        match request {
            Request::Init { unique, major } => {
                ensure!(major == 7, "the kernel speaks FUSE {major}, not 7");
                self.answer(&fuse::init(unique))?;
            }
            Request::GetAttr { unique } => {
                self.answer(&fuse::attributes(unique, FILE_SIZE as u64))?;
            }
            Request::Open { unique } => self.answer(&fuse::opened(unique))?,
            Request::Release { unique } => self.answer(&fuse::error(unique, 0))?,
            Request::Read {
                unique,
                offset,
                tid,
            } => self.read(unique, offset, tid)?,
            Request::Interrupt { unique } => {
                if let Some(tid) = self.queue.interrupt(unique)
                    && wake::must_go(tid)
                {
                    self.queue.remove(unique);
                    self.refuse(unique)?;
                }
            }
            Request::Silent => {}
            Request::Unknown { unique } => self.answer(&fuse::error(unique, libc::ENOSYS))?,
        }
        Ok(true)
    }

    fn read(&mut self, unique: u64, offset: u64, tid: u32) -> Result<()> {
        let slot = (offset / SLEEP_STRIDE) as usize;
        let now = clock::monotonic_ns();
        let answer_ns = if slot < SLEEP_SLOTS as usize && !self.is_over(now) {
            // SAFETY: inside the mapped array; the sleeper wrote the word before
            // it asked.
            unsafe { (&raw const (*self.sleeps.add(slot)).answer_ns).read_volatile() }
        } else {
            0
        };
        if answer_ns <= now {
            return self.refuse(unique);
        }
        self.queue.push(unique, tid, answer_ns);
        Ok(())
    }

    fn release_all(&mut self) -> Result<()> {
        for unique in self.queue.take_all() {
            self.refuse(unique)?;
        }
        Ok(())
    }

    /// Ends a sleep. An error, because a page that was read would stay read.
    fn refuse(&self, unique: u64) -> Result<()> {
        self.answer(&fuse::error(unique, libc::EIO))
    }

    fn answer(&self, message: &[u8]) -> Result<()> {
        match rustix::io::write(&self.device, message) {
            // The thread has died meanwhile.
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => bail!("cannot answer a FUSE request: {error}"),
        }
    }

    /// Answers the daemon's heartbeat with the number of sleepers; false when
    /// the daemon is gone.
    fn hear_daemon(&mut self) -> Result<bool> {
        let mut byte = [0];
        if self.daemon.read(&mut byte).unwrap_or(0) == 0 {
            return Ok(false);
        }
        if byte[0] == BEAT {
            let sleepers = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
            let mut beat = [BEAT; 5];
            beat[1..].copy_from_slice(&sleepers.to_ne_bytes());
            self.daemon.write_all(&beat).context("the daemon is gone")?;
        }
        Ok(true)
    }

    /// The holder says where its page is, or is gone.
    fn hear_holder(&mut self) -> Result<()> {
        let mut line = String::new();
        if self.holder.lines.read_line(&mut line)? == 0 || self.holder.is_ready {
            let status = self.holder.process.wait()?;
            bail!("the holder of the sleep engine has ended: {status}");
        }
        self.holder.is_ready = true;
        write!(self.daemon, "{READY} {line}").context("the daemon is gone")
    }
}
