//! What `/proc` says about a process.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A process; nothing is read before it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Process id (tgid).
    pub pid: u32,
}

impl Process {
    /// All processes of the host that `/proc` shows.
    pub fn all() -> io::Result<Vec<Self>> {
        Ok(fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(|pid| Self { pid })
            .collect())
    }

    fn file(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    /// Whether it is there and is a process, not a thread.
    pub fn exists(self) -> bool {
        self.status_field("Tgid:") == Some(self.pid)
    }

    /// Name of the main thread.
    pub fn comm(self) -> Option<String> {
        let bytes = fs::read(self.file("comm")).ok()?;
        Some(
            String::from_utf8_lossy(&bytes)
                .trim_end_matches('\n')
                .to_owned(),
        )
    }

    /// The program file; none for kernel threads.
    pub fn exe(self) -> Option<PathBuf> {
        fs::read_link(self.file("exe")).ok()
    }

    /// Path in the cgroup v2 hierarchy, such as `/system.slice/nginx.service`.
    pub fn cgroup(self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.file("cgroup")).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        Some(PathBuf::from(path))
    }

    /// The environment that the program was started with, as `KEY=VALUE`.
    pub fn environment(self) -> Option<Vec<Vec<u8>>> {
        let bytes = fs::read(self.file("environ")).ok()?;
        Some(bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
    }

    /// Parent process; none for pid 1 and its like.
    pub fn parent(self) -> Option<Self> {
        self.status_field("PPid:")
            .filter(|&pid| pid != 0)
            .map(|pid| Self { pid })
    }

    /// Whether it is a kernel thread: those have no program file, and their
    /// parent is kthreadd (2) or nobody.
    pub fn is_kernel_thread(self) -> bool {
        self.pid == 2 || self.parent().is_some_and(|parent| parent.pid == 2)
    }

    /// The chain of parents, nearest first.
    pub fn ancestors(self) -> Vec<Self> {
        let mut chain = Vec::new();
        let mut current = self;
        // A chain longer than this is a race with reused ids.
        while let Some(parent) = current.parent()
            && chain.len() < 256
        {
            chain.push(parent);
            current = parent;
        }
        chain
    }

    /// Its state, as a letter (`Documentation/filesystems/proc.rst`): `T` is
    /// stopped, `t` stopped by who traces it.
    pub fn state(self) -> Option<char> {
        state(&fs::read_to_string(self.file("stat")).ok()?)
    }

    /// Who traces it, such as a debugger.
    pub fn tracer(self) -> Option<u32> {
        self.status_field("TracerPid:").filter(|&pid| pid != 0)
    }

    /// Whether all its threads are stopped.
    pub fn is_stopped(self) -> bool {
        let mut threads = self.threads().into_iter();
        threads.all(|tid| {
            let stat = fs::read_to_string(self.file(&format!("task/{tid}/stat")));
            stat.ok().is_none_or(|stat| state(&stat) == Some('T'))
        })
    }

    /// Its threads, in order of their numbers.
    pub fn threads(self) -> Vec<u32> {
        let entries = fs::read_dir(self.file("task")).into_iter().flatten();
        let mut threads: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        threads.sort_unstable();
        threads
    }

    /// The instructions that its threads go on with; only of those that do not
    /// run.
    pub fn instructions(self) -> Vec<(u32, u64)> {
        let of = |tid: u32| {
            let text = fs::read_to_string(self.file(&format!("task/{tid}/syscall"))).ok()?;
            Some((tid, instruction(&text)?))
        };
        self.threads().into_iter().filter_map(of).collect()
    }

    fn status_field(self, name: &str) -> Option<u32> {
        let text = fs::read_to_string(self.file("status")).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| value.trim().parse().ok())
    }
}

/// The third word of `stat`; the second, in parentheses, can be anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The last word of `syscall`, which ends with the stack pointer and the
/// instruction pointer; it is `running` for a thread that runs.
fn instruction(syscall: &str) -> Option<u64> {
    let word = syscall.split_whitespace().next_back()?;
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_described() {
        let own = Process {
            pid: std::process::id(),
        };
        assert!(own.exists());
        assert_eq!(own.exe().unwrap(), std::env::current_exe().unwrap());
        assert_eq!(
            own.parent().unwrap().pid,
            std::os::unix::process::parent_id()
        );
        assert!(own.ancestors().iter().any(|ancestor| ancestor.pid == 1));
        assert!(!own.is_kernel_thread());
        assert!(Process::all().unwrap().contains(&own));
    }

    #[test]
    fn state_and_instruction_are_read() {
        assert_eq!(state("12 (a) b) T 1 12"), Some('T'));
        assert_eq!(instruction("-1 0x7ffd1000 0x401230\n"), Some(0x40_1230));
        assert_eq!(instruction("running\n"), None);
        let own = Process {
            pid: std::process::id(),
        };
        assert!(own.threads().contains(&own.pid));
        assert!(!own.is_stopped() && own.tracer().is_none());
    }

    #[test]
    fn kernel_threads_are_told_apart() {
        assert!(Process { pid: 2 }.is_kernel_thread());
    }
}
