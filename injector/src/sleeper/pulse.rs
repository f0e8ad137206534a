//! Whether the daemon lives. Its socket tells that late when it is killed while it has
//! uprobes: the kernel closes its files one after the other, and the end of a uprobe
//! waits for the sleepers, who wait for us to hear of it.

use std::{fs::File, os::unix::fs::FileExt as _};

/// How often it is looked at while threads sleep, in nanoseconds.
const TICK_NS: u64 = 100_000_000;
/// The task is in `do_exit` (include/linux/sched.h, Linux 6.1 to 6.18).
const PF_EXITING: u64 = 0x4;

/// The parent of this process, as `/proc` shows it.
pub struct Pulse {
    stat: File,
    next_ns: u64,
}

impl Pulse {
    /// None without `/proc`: then there is the socket alone.
    pub fn of_parent() -> Option<Self> {
        let parent = std::os::unix::process::parent_id();
        let stat = File::open(format!("/proc/{parent}/stat")).ok()?;
        Some(Self { stat, next_ns: 0 })
    }

    /// Whether it is not about to end; looked at now and then only.
    pub fn beats(&mut self, now_ns: u64) -> bool {
        if now_ns < self.next_ns {
            return true;
        }
        self.next_ns = now_ns + TICK_NS;
        let mut stat = [0; 512];
        // Nothing can be read once it is gone (ESRCH).
        self.stat
            .read_at(&mut stat, 0)
            .is_ok_and(|length| is_alive(&stat[..length]))
    }
}

/// By `/proc/PID/stat` (proc(5)): a name in brackets, the state, five numbers, the flags.
fn is_alive(stat: &[u8]) -> bool {
    let stat = String::from_utf8_lossy(stat);
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = fields.split_whitespace();
    let ended = fields
        .next()
        .is_none_or(|state| matches!(state, "Z" | "X" | "x"));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    !ended && flags.is_some_and(|flags| flags & PF_EXITING == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_exits_does_not_live() {
        let stat = |state, flags| format!("12 (a) b) {state} 1 12 12 0 -1 {flags} 93 0");
        assert!(is_alive(stat("S", 0x40_0100).as_bytes()));
        assert!(!is_alive(stat("D", 0x40_0104).as_bytes()));
        assert!(!is_alive(stat("Z", 0x40_0100).as_bytes()));
        assert!(!is_alive(b"") && !is_alive(b"12 (a) S 1"));
    }

    #[test]
    fn the_parent_lives() {
        let mut pulse = Pulse::of_parent().unwrap();
        assert!(pulse.beats(0) && pulse.beats(1) && pulse.beats(TICK_NS));
    }
}
