//! Why a sleeping thread was interrupted, from what `/proc` says of it.
//!
//! A thread that waits for an answer of ours cannot be killed or stopped, so
//! the server lets it go when it must: before signals that end or stop its
//! process, and when it is traced. Caught signals wait for the end of the
//! delay, as they would in any uninterruptible sleep: a Go program gets one
//! every few milliseconds.

use std::fs;

/// Threads of a process that are looked at to find out if it is stopped.
const MOST_THREADS: usize = 64;

/// `1 << (signal - 1)`.
const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Signals that do nothing unless they are caught (`sig_kernel_ignore`,
/// `include/linux/signal.h`).
const IGNORED_BY_DEFAULT: u64 =
    bit(libc::SIGCHLD) | bit(libc::SIGCONT) | bit(libc::SIGURG) | bit(libc::SIGWINCH);

/// Whether the thread must be let go. Also true when it is gone.
pub fn must_go(tid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{tid}/status")) else {
        return true;
    };
    match Cause::read(&status) {
        Cause::EndOrStop | Cause::Traced => true,
        Cause::Caught => false,
        Cause::Unknown { tgid } => is_stopped(tgid, tid),
    }
}

/// What the signals of a thread say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A signal that ends or stops the process is pending.
    EndOrStop,
    /// A debugger is attached.
    Traced,
    /// Only signals that the process handles.
    Caught,
    /// None that is pending: another thread took it, or the process stops.
    Unknown { tgid: u32 },
}

impl Cause {
    fn read(status: &str) -> Self {
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map_or("0", str::trim)
        };
        let mask = |name: &str| u64::from_str_radix(value(name), 16).unwrap_or(0);
        let number = |name: &str| value(name).parse::<u32>().unwrap_or(0);
        if number("TracerPid") != 0 {
            return Self::Traced;
        }
        let pending = (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn");
        if pending & !mask("SigCgt") & !IGNORED_BY_DEFAULT != 0 {
            return Self::EndOrStop;
        }
        if pending != 0 {
            return Self::Caught;
        }
        Self::Unknown {
            tgid: number("Tgid"),
        }
    }
}

/// Whether a thread of the process other than the sleeper is stopped: the thread
/// that took the signal stops first.
fn is_stopped(process: u32, sleeper: u32) -> bool {
    let stopped = |thread: u32| {
        fs::read_to_string(format!("/proc/{process}/task/{thread}/stat"))
            .is_ok_and(|stat| is_stopped_state(&stat))
    };
    if process != sleeper {
        return stopped(process);
    }
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return true;
    };
    threads
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|thread| *thread != sleeper)
        .take(MOST_THREADS)
        .any(stopped)
}

/// The state is the first letter behind the name, which may hold anything.
fn is_stopped_state(stat: &str) -> bool {
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(fields: &[(&str, &str)]) -> String {
        let all = [
            ("Tgid", "10"),
            ("TracerPid", "0"),
            ("SigPnd", "0"),
            ("ShdPnd", "0"),
            ("SigBlk", "0"),
            ("SigIgn", "0"),
            ("SigCgt", "0"),
        ];
        all.iter().fold(String::new(), |text, (name, default)| {
            let value = fields
                .iter()
                .find(|(field, _)| field == name)
                .map_or(*default, |(_, value)| value);
            format!("{text}{name}:\t{value}\n")
        })
    }

    #[test]
    fn only_signals_that_end_or_stop_let_a_thread_go() {
        let term = "0000000000004000";
        let usr2 = "0000000000000800";
        let urg = "0000000000400000";
        for (fields, cause) in [
            (vec![("ShdPnd", term)], Cause::EndOrStop),
            (vec![("SigPnd", "0000000000000100")], Cause::EndOrStop),
            (vec![("ShdPnd", "0000000000040000")], Cause::EndOrStop),
            (vec![("ShdPnd", term), ("SigCgt", term)], Cause::Caught),
            (vec![("SigPnd", usr2), ("SigCgt", usr2)], Cause::Caught),
            (vec![("SigPnd", urg)], Cause::Caught),
            (
                vec![("SigPnd", term), ("SigBlk", term)],
                Cause::Unknown { tgid: 10 },
            ),
            (
                vec![("ShdPnd", term), ("SigIgn", term)],
                Cause::Unknown { tgid: 10 },
            ),
            (
                vec![("TracerPid", "5"), ("SigPnd", usr2), ("SigCgt", usr2)],
                Cause::Traced,
            ),
            (vec![], Cause::Unknown { tgid: 10 }),
        ] {
            assert_eq!(Cause::read(&status(&fields)), cause, "{fields:?}");
        }
    }

    #[test]
    fn the_state_is_found_behind_any_name() {
        assert!(is_stopped_state("7 (a) T b) T 1 2"));
        assert!(is_stopped_state("7 (x) t 1 2"));
        assert!(!is_stopped_state("7 (T) S 1 2"));
        assert!(!is_stopped_state(""));
    }

    #[test]
    fn a_thread_that_is_gone_must_go() {
        assert!(must_go(u32::MAX));
        assert!(!must_go(std::process::id()));
    }
}
