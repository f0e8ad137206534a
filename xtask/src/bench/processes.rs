//! What the kernel says of running processes: CPU time and memory.

use std::{collections::BTreeMap, fs, io};

use anyhow::{Context as _, Result, ensure};

/// Nanoseconds in one of the ticks that `/proc` counts in (`USER_HZ`, 100 on
/// every architecture that is built for).
const TICK_NS: f64 = 1e7;

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident pages, shared ones in full (Rss).
    pub resident: u64,
    /// The same, shared ones by share (Pss).
    pub proportional: u64,
}

/// The children of a process, in the order in which they were started.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let text = read(pid, &format!("task/{pid}/children"))?;
    text.split_whitespace()
        .map(|word| {
            word.parse()
                .with_context(|| format!("children of {pid}: {text:?}"))
        })
        .collect()
}

/// User and system time that a process has used, in nanoseconds, without its
/// children's.
pub fn cpu_ns(pid: u32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    ticks(&stat)
        .map(|ticks| ticks as f64 * TICK_NS)
        .with_context(|| format!("no CPU time in /proc/{pid}/stat: {stat:?}"))
}

/// Gives a thread, by its id, the highest priority (nice -20).
pub fn prefer(thread: u32) -> Result<()> {
    // SAFETY: a system call with numbers.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, -20) };
    ensure!(
        result == 0,
        "cannot raise the priority of thread {thread}: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

/// Memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let rollup = read(pid, "smaps_rollup")?;
    let of = |name| {
        field(&rollup, name).with_context(|| format!("no {name} in /proc/{pid}/smaps_rollup"))
    };
    Ok(Memory {
        resident: of("Rss")?,
        proportional: of("Pss")?,
    })
}

/// Memory of the BPF maps that a process holds, in KiB; it belongs to the
/// kernel and is in no process's pages.
pub fn maps(pid: u32) -> Result<u64> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {directory}"))?;
    let mut bytes = BTreeMap::new();
    for entry in entries.flatten() {
        // A descriptor can be closed meanwhile.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let (Some(id), Some(size)) = (field(&text, "map_id"), field(&text, "memlock")) {
            // Several descriptors can be of one map.
            bytes.insert(id, size);
        }
    }
    Ok(bytes.values().sum::<u64>() / 1024)
}

/// The page cache of the whole system, in KiB.
pub fn page_cache() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    field(&text, "Cached").context("no Cached in /proc/meminfo")
}

fn read(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

/// utime and stime, the 14th and 15th field; the second, in brackets, may hold
/// anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The first number of the line that begins with `name` and a colon.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S"), None);
    }

    #[test]
    fn our_own_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu_ns(pid).is_ok());
        let memory = memory(pid).unwrap();
        assert!(memory.proportional > 0 && memory.resident >= memory.proportional);
        assert!(children(pid).is_ok());
        assert!(page_cache().unwrap() > 0);
        assert_eq!(maps(pid).unwrap(), 0);
    }

    #[test]
    fn map_sizes_are_read() {
        let fdinfo = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t9\nfrozen:\t0\n";
        assert_eq!(field(fdinfo, "memlock"), Some(4096));
        assert_eq!(field(fdinfo, "map_id"), Some(9));
        assert_eq!(field("Cached:   123 kB\n", "Cached"), Some(123));
        assert_eq!(field("SwapCached: 1 kB\n", "Cached"), None);
    }
}
