//! Who is never a target, and when a selector matches too much.

use thiserror::Error;

use super::process::Process;

/// Fewer matches than this are never too many.
const FEW: usize = 10;
/// The share of the host's user processes that a selector may match.
const SHARE: f64 = 0.25;

/// Why a process cannot be a target.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Protected {
    /// Pid 1.
    #[error("it is pid 1, on which the host depends")]
    Init,
    /// We.
    #[error("it is this injector itself")]
    Own,
    /// Our shell, sudo and the like.
    #[error("it is a parent of this injector, through which you would stop it")]
    Parent,
    /// Kernel thread.
    #[error("it is a kernel thread")]
    KernelThread,
    /// The way in.
    #[error("it is sshd, through which you may have come")]
    Sshd,
}

/// Why a selector is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the selector matches {matched} of {all} processes on this host; narrow it, \
     or say --allow-broad if that is what you want"
)]
pub struct TooBroad {
    matched: usize,
    all: usize,
}

/// Knows the processes that depend on us and on which we depend.
pub struct Protection {
    own: u32,
    parents: Vec<u32>,
}

impl Protection {
    /// For the running injector.
    pub fn of_this_process() -> Self {
        let own = Process {
            pid: std::process::id(),
        };
        Self {
            own: own.pid,
            parents: own.ancestors().iter().map(|parent| parent.pid).collect(),
        }
    }

    /// Why this process cannot be a target, if so.
    pub fn check(&self, process: Process) -> Result<(), Protected> {
        if process.pid == 1 {
            return Err(Protected::Init);
        }
        if process.pid == self.own {
            return Err(Protected::Own);
        }
        if self.parents.contains(&process.pid) {
            return Err(Protected::Parent);
        }
        if process.is_kernel_thread() {
            return Err(Protected::KernelThread);
        }
        // Session processes rename themselves: `sshd-session` since OpenSSH 9.8.
        if matches!(
            process.comm().as_deref(),
            Some("sshd" | "sshd-session" | "sshd-auth")
        ) {
            return Err(Protected::Sshd);
        }
        Ok(())
    }
}

/// Whether so many matches are a sane share of the host's user processes.
pub fn check_breadth(matched: usize, all: usize) -> Result<(), TooBroad> {
    if matched > FEW && matched as f64 > SHARE * all as f64 {
        return Err(TooBroad { matched, all });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_we_depend_on_are_protected() {
        let protection = Protection::of_this_process();
        let pid = |pid| protection.check(Process { pid });
        assert_eq!(pid(1), Err(Protected::Init));
        assert_eq!(pid(2), Err(Protected::KernelThread));
        assert_eq!(pid(std::process::id()), Err(Protected::Own));
        assert_eq!(
            pid(std::os::unix::process::parent_id()),
            Err(Protected::Parent)
        );
    }

    #[test]
    fn breadth_is_judged_by_share() {
        assert!(check_breadth(10, 12).is_ok());
        assert!(check_breadth(11, 100).is_ok());
        assert!(check_breadth(26, 100).is_err());
    }
}
