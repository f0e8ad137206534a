//! Which engine makes threads wait, and why the better one does not.

use injector_ebpf::{Hook, Kfunc, Operation, TASK_FROM_PID, TASK_RELEASE, TASK_WORK_SCHEDULE};
use thiserror::Error;

use super::{
    hooks::{self, HookError},
    host::{Host, NotInList},
    kfunc::Kfuncs,
};

/// The engine that burns CPU time, as it is shown.
pub const SPIN: &str = "spin";
/// The engine that does not.
pub const SLEEP: &str = "sleep";

/// Which engine to use for delays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// sleep where it works, else spin.
    #[default]
    Auto,
    /// The thread sleeps: no CPU time, delays of any length.
    Sleep,
    /// The thread burns its CPU until the delay is over.
    Spin,
}

/// How threads can be made to sleep beside a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the sleepable LSM hook, before the send.
    Lsm,
    /// In task work, on the way back to the caller.
    TaskWork,
}

impl Way {
    /// The way that goes with a hook for sends.
    pub fn beside(hook: Hook) -> Self {
        if hook == Hook::Tracepoint {
            Self::TaskWork
        } else {
            Self::Lsm
        }
    }

    /// The kernel functions that it calls.
    fn kfuncs(self) -> &'static [Kfunc] {
        match self {
            Self::Lsm => &[TASK_FROM_PID, TASK_RELEASE],
            Self::TaskWork => &[TASK_FROM_PID, TASK_RELEASE, TASK_WORK_SCHEDULE],
        }
    }

    /// Whether this kernel has what it needs, as far as can be told without
    /// loading anything. `is_parent`: the holder is an ancestor of all targets.
    pub fn check(self, kfuncs: &Kfuncs, is_parent: bool) -> Result<(), NoSleep> {
        let climbs = is_parent && self == Self::Lsm;
        if !climbs && let Some(name) = kfuncs.missing(self.kfuncs()) {
            return Err(NoSleep::NoKfunc { name, way: self });
        }
        if self == Self::Lsm {
            Host::read().check_lsm_list()?;
        }
        Ok(())
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::TaskWork => "task_work",
        }
    }

    /// When and where calls of these kinds sleep, in words.
    pub fn describe(self, operations: &[Operation]) -> String {
        match self {
            Self::Lsm => {
                let names = hooks::lsm_names(operations);
                let hooks = if names.len() == 1 { "hook" } else { "hooks" };
                format!("before the call, in the LSM {hooks} {}", names.join(", "))
            }
            Self::TaskWork => "after the send, on the way back to the caller".to_owned(),
        }
    }
}

/// Why threads cannot sleep here.
#[derive(Debug, Error)]
pub enum NoSleep {
    /// An old kernel.
    #[error("this kernel has no {name}")]
    NoKfunc {
        /// The kernel function.
        name: &'static str,
        /// What needs it.
        way: Way,
    },
    /// The LSM program would be attached and never called.
    #[error(transparent)]
    NotInList(#[from] NotInList),
    /// The kernel refuses a program.
    #[error(transparent)]
    Refused(#[from] HookError),
    /// Server or holder.
    #[error("{0}")]
    NoServer(String),
}

impl NoSleep {
    /// What would change it, when that does not depend on what the kernel said.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NoKfunc { way: Way::Lsm, .. } => Some(
                "boot Linux 6.12 or later, or start the program with `injector … -- CMD`"
                    .to_owned(),
            ),
            Self::NoKfunc {
                way: Way::TaskWork, ..
            } => Some(
                "boot Linux 6.18 or later, or a kernel from 6.12 on that accepts fentry or kprobe"
                    .to_owned(),
            ),
            Self::NotInList(list) => Some(list.remedy()),
            Self::Refused(_) | Self::NoServer(_) => None,
        }
    }

    /// The reason, and the remedy if there is one, as one clause.
    pub fn advice(&self) -> String {
        match self.remedy() {
            Some(remedy) => format!("{self}; {remedy}"),
            None => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_name_what_is_hooked() {
        assert_eq!(
            Way::Lsm.describe(&[Operation::Send]),
            "before the call, in the LSM hook socket_sendmsg"
        );
        assert_eq!(
            Way::Lsm.describe(&[Operation::Connect, Operation::Accept]),
            "before the call, in the LSM hooks socket_connect, socket_accept"
        );
    }

    #[test]
    fn advice_names_what_is_missing_and_what_would_do() {
        let missing = |way| NoSleep::NoKfunc { name: "f", way }.advice();
        assert!(missing(Way::Lsm).contains("no f; boot Linux 6.12"));
        assert!(missing(Way::TaskWork).contains("no f; boot Linux 6.18"));
        let list = NotInList("yama".to_owned());
        assert!(NoSleep::from(list).advice().contains("lsm=yama,bpf"));
        let server = NoSleep::NoServer("cannot open /dev/fuse".to_owned());
        assert_eq!(server.advice(), "cannot open /dev/fuse");
    }
}
