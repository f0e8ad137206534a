//! Which engine makes threads wait, and why the better one does not.

use injector_ebpf::{Hook, Kfunc, TASK_FROM_PID, TASK_RELEASE, TASK_WORK_SCHEDULE};
use thiserror::Error;

use super::{hooks::HookError, host::Host, kfunc::Kfuncs};

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
    /// loading anything.
    pub fn check(self, kfuncs: &Kfuncs) -> Result<(), NoSleep> {
        if let Some(name) = kfuncs.missing(self.kfuncs()) {
            return Err(NoSleep::NoKfunc(name));
        }
        match (self, Host::read().lsms_without_bpf()) {
            (Self::Lsm, Some(list)) => Err(NoSleep::NotInList { list }),
            _ => Ok(()),
        }
    }

    /// What it is, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Lsm => "before the send, in the LSM hook socket_sendmsg",
            Self::TaskWork => "after the send, on the way back to the caller",
        }
    }
}

/// Why threads cannot sleep here.
#[derive(Debug, Error)]
pub enum NoSleep {
    /// An old kernel.
    #[error(
        "this kernel has no {0} (Linux 6.12 has what the LSM hook needs, 6.18 what tracepoints need)"
    )]
    NoKfunc(&'static str),
    /// The LSM program would be attached and never called.
    #[error(
        "bpf is not in the LSM list of this kernel ({list}); boot with lsm={list},bpf on the \
         kernel command line"
    )]
    NotInList {
        /// The list.
        list: String,
    },
    /// The kernel refuses a program.
    #[error(transparent)]
    Refused(#[from] HookError),
    /// Server or holder.
    #[error("{0}")]
    NoServer(String),
}
