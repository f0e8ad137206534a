//! Counters that the kernel side keeps, one set per CPU.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident => $key:literal,)+) => {
        /// What is counted in the kernel. The doc text of a variant is what
        /// help and documentation print.
        #[repr(usize)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $doc])+ $name,)+
        }

        /// Every counter with its name as output uses it and its meaning.
        pub const COUNTERS: &[(Counter, &str, &str)] =
            &[$((Counter::$name, $key, concat!($($doc),+)),)+];
    };
}

counters! {
    /// Sends of targets that a hook saw.
    Seen => "seen",
    /// Sends that passed the rule's filters (protocol, peer, size).
    Matched => "matched",
    /// Sends that the rule chose (`when` and probability held).
    Chosen => "chosen",
    /// Sends that were delayed.
    Delayed => "delayed",
    /// Sends whose delay the engine's ceiling cut short.
    Capped => "capped",
    /// Sends whose delay was cut short by a signal or by the end of the run.
    Shortened => "shortened",
    /// Sends that passed the threshold.
    Flagged => "flagged",
    /// Sends that were failed with an errno.
    Failed => "failed",
    /// Signals sent for sends over the threshold.
    Signalled => "signalled",
    /// Chosen sends left alone because the mode is shadow.
    Shadowed => "shadowed",
    /// Nanoseconds that the spin engine burnt.
    SpinNs => "spin_ns",
    /// Delays spun because all slots of the sleep engine were taken.
    SleepersFull => "sleepers_full",
    /// Delays spun because the kernel refused to schedule the sleep.
    SleepsRefused => "sleeps_refused",
    /// Nanoseconds of delay that were asked for.
    AskedNs => "asked_ns",
    /// Nanoseconds of delay that were delivered.
    DeliveredNs => "delivered_ns",
    /// Records lost because the ring buffer was full.
    RecordsDropped => "records_dropped",
    /// Stacks of sends lost because their ring buffer was full.
    StacksDropped => "stacks_dropped",
    /// Process events lost because their ring buffer was full.
    LifecycleDropped => "lifecycle_dropped",
    /// Returns that a hook missed (too many calls in flight).
    ReturnsMissed => "returns_missed",
    /// Sends not followed because the in-flight table was full.
    InFlightFull => "in_flight_full",
    /// Threads whose call index was lost because the thread table was full.
    ThreadsFull => "threads_full",
    /// Processes not followed because the target table was full.
    TargetsFull => "targets_full",
    /// Suppressed: the lease had expired.
    GuardLease => "guard_lease",
    /// Suppressed: the ceiling on total injected delay was reached.
    GuardTotalDelay => "guard_total_delay",
    /// Suppressed: the ceiling on injected delay per second was reached.
    GuardDelayRate => "guard_delay_rate",
    /// Suppressed: the ceiling on acted sends per second was reached.
    GuardActRate => "guard_act_rate",
    /// Suppressed: the sender is a kernel thread.
    GuardKernelThread => "guard_kernel_thread",
    /// Suppressed: the sender is an `io_uring` worker.
    GuardIoWorker => "guard_io_worker",
    /// Suppressed: the send runs inline in `io_uring_enter`.
    GuardIoUring => "guard_io_uring",
    /// Suppressed: the socket belongs to the kernel and has no file.
    GuardKernelSocket => "guard_kernel_socket",
    /// Suppressed: non-blocking socket under `--blocking-only`.
    GuardNonBlocking => "guard_non_blocking",
    /// Suppressed: the hook that saw the send cannot fail it.
    GuardNoErrorHook => "guard_no_error_hook",
}

/// The counters of one CPU, indexed by [`Counter`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Values, in the order of [`COUNTERS`].
    pub values: [u64; COUNTERS.len()],
}
