//! What the sleep engine's two halves share.
//!
//! A thread sleeps by reading a byte that is not there yet: a page, in the
//! memory of a process of ours (the *holder*), of a file that another process
//! of ours (the *server*) serves over FUSE. The kernel side writes into the
//! thread's slot until when the server is to let the read wait.

/// Threads that can be asleep at once, a power of two. Each has a page of the
/// served file, and a thread that has slept keeps 4 KiB of page cache.
pub const SLEEP_SLOTS: u32 = 1 << 14;

/// Distance between two slots in the served file, in bytes: one page, because
/// a page can be waited for by one thread only.
pub const SLEEP_STRIDE: u64 = 4096;

/// Most nanoseconds that the server answers early, and so most CPU time that
/// one delay costs its thread: it spins from the early answer to the deadline.
pub const MAX_MARGIN_NS: u64 = 250_000;

/// Classes of sleeps whose lateness is learnt apart; see [`margin_class`].
pub const MARGIN_CLASSES: usize = 8;

/// One sleeping thread. The server maps the table of these and reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sleep {
    /// When the server is to answer, in nanoseconds of `CLOCK_MONOTONIC`.
    pub answer_ns: u64,
    /// Threads that want this slot; the one that found 0 has it.
    pub claims: u64,
}

/// How early the server answers, learnt from how late threads woke.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margins {
    /// Nanoseconds, by [`margin_class`].
    pub ns: [u64; MARGIN_CLASSES],
}

/// The longer a CPU has idled, the longer it takes to wake: sleeps are told
/// apart by powers of four, from less than 262 µs to more than 268 ms.
#[must_use]
#[inline(always)]
pub fn margin_class(length_ns: u64) -> usize {
    let mut class = 0;
    let mut limit = 1 << 18;
    while class < MARGIN_CLASSES - 1 {
        if length_ns < limit {
            break;
        }
        limit <<= 2;
        class += 1;
    }
    class
}

/// A step of the estimate of the 99th percentile of lateness: 99 steps down
/// weigh as much as one up (stochastic approximation, Robbins and Monro 1951).
#[must_use]
#[inline(always)]
pub fn next_margin(margin_ns: u64, late_ns: u64) -> u64 {
    const UP_NS: u64 = 9_900;
    const DOWN_NS: u64 = 100;
    if late_ns > margin_ns {
        let next = margin_ns + UP_NS;
        if next > MAX_MARGIN_NS {
            MAX_MARGIN_NS
        } else {
            next
        }
    } else {
        margin_ns.saturating_sub(DOWN_NS)
    }
}

/// Longest sleep of one callback of task work, in nanoseconds, while so many
/// threads sleep. A slice costs some 50 µs of CPU time, so that many thousand
/// threads take longer ones: from a thousand on they wake 5,000 times a second
/// in all, however many there are.
#[must_use]
#[inline(always)]
pub fn slice_ns(sleepers: u64) -> u64 {
    const LEAST_NS: u64 = 200_000_000;
    const NS_PER_SLEEPER: u64 = 200_000;
    let fair = sleepers.wrapping_mul(NS_PER_SLEEPER);
    if fair > LEAST_NS { fair } else { LEAST_NS }
}

/// A kernel function that the programs call. aya cannot resolve these, so a
/// program calls a helper number that does not exist, and the loader puts the
/// function's BTF id in its place (see `BPF_PSEUDO_KFUNC_CALL` in
/// `include/uapi/linux/bpf.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kfunc {
    /// Its names, newest first; all take the same arguments.
    pub names: &'static [&'static str],
    /// The helper number that stands for it in the object.
    pub placeholder: u32,
}

/// `struct task_struct *bpf_task_from_pid(s32 pid)` [kernel/bpf/helpers.c],
/// since 6.2; checked in 6.12, 6.18, 7.3.
pub const TASK_FROM_PID: Kfunc = Kfunc {
    names: &["bpf_task_from_pid"],
    placeholder: 0x7ff0_0001,
};

/// `void bpf_task_release(struct task_struct *p)` [kernel/bpf/helpers.c],
/// since 6.2; checked in 6.12, 6.18, 7.3.
pub const TASK_RELEASE: Kfunc = Kfunc {
    names: &["bpf_task_release"],
    placeholder: 0x7ff0_0002,
};

/// `int bpf_task_work_schedule_resume_impl(struct task_struct *task, struct
/// bpf_task_work *tw, void *map__map, bpf_task_work_callback_t callback, void
/// *aux__prog)` [kernel/bpf/helpers.c], since 6.18; checked in 6.18. Later
/// kernels fill in the last argument themselves and drop the suffix.
pub const TASK_WORK_SCHEDULE: Kfunc = Kfunc {
    names: &[
        "bpf_task_work_schedule_resume",
        "bpf_task_work_schedule_resume_impl",
    ],
    placeholder: 0x7ff0_0003,
};

/// Every kernel function that a program calls.
pub const KFUNCS: [Kfunc; 3] = [TASK_FROM_PID, TASK_RELEASE, TASK_WORK_SCHEDULE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_by_four() {
        assert_eq!(margin_class(0), 0);
        assert_eq!(margin_class(262_143), 0);
        assert_eq!(margin_class(262_144), 1);
        assert_eq!(margin_class(1_000_000), 1);
        assert_eq!(margin_class(1_048_576), 2);
        assert_eq!(margin_class(u64::MAX), MARGIN_CLASSES - 1);
    }

    /// Of a thousand equally likely latenesses, the estimate settles where
    /// about one in a hundred is larger.
    #[test]
    fn the_margin_settles_at_the_99th_percentile() {
        let mut margin = MAX_MARGIN_NS;
        let mut state = 1u64;
        let mut later = 0;
        for round in 0..200_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let late = (state >> 33) % 100_000;
            if round >= 100_000 && late > margin {
                later += 1;
            }
            margin = next_margin(margin, late);
        }
        assert!(
            (500..2_000).contains(&later),
            "{later} of 100000 were later"
        );
        assert!((90_000..110_000).contains(&margin), "{margin}");
    }

    #[test]
    fn slices_grow_with_the_sleepers() {
        assert_eq!(slice_ns(0), 200_000_000);
        assert_eq!(slice_ns(1000), 200_000_000);
        assert_eq!(slice_ns(10_000), 2_000_000_000);
        assert_eq!(slice_ns(u64::from(SLEEP_SLOTS)), 3_276_800_000);
    }

    #[test]
    fn the_margin_has_bounds() {
        assert_eq!(next_margin(MAX_MARGIN_NS, u64::MAX), MAX_MARGIN_NS);
        assert_eq!(next_margin(50, 0), 0);
        assert_eq!(next_margin(0, 0), 0);
    }
}
