//! What the kernel tells userspace: one record per send, one event per process
//! that starts or ends.

/// `TASK_COMM_LEN` of `include/linux/sched.h`, unchanged since Linux 2.6.
pub const COMM_LEN: usize = 16;

/// Bytes of an address that a record carries. Sixteen hold any IP address; the
/// rest leaves room for the beginning of a unix socket's path.
pub const ENDPOINT_LEN: usize = 40;

numbered! {
    /// Where a send was seen.
    Hook {
        /// kprobe and kretprobe on the protocol's send function.
        Kprobe = 0 => "kprobe",
        /// fentry and fexit on the protocol's send function.
        Fentry = 1 => "fentry",
        /// `sys_enter_*` and `sys_exit_*` of the send family.
        Tracepoint = 2 => "tracepoint",
        /// A BPF LSM hook: `socket_sendmsg`, or that of another [`Operation`].
        Lsm = 3 => "lsm",
        /// `sock_send_length`: seen only when it was over.
        SockSendLength = 4 => "sock_send_length",
    }
}

numbered! {
    /// What a thread wants of a socket. The number is a bit of
    /// [`crate::Rule::operations`], and the [`SendRecord::place`] of
    /// [`Hook::Lsm`].
    Operation {
        /// Sending, whatever the call.
        Send = 0 => "send",
        /// `connect`.
        Connect = 1 => "connect",
        /// `accept` and `accept4`.
        Accept = 2 => "accept",
        /// Receiving, whatever the call.
        Recv = 3 => "recv",
    }
}

numbered! {
    /// Family and type of the socket. The number is a bit of
    /// [`crate::Rule::protocols`].
    Protocol {
        /// TCP over IPv4 or IPv6.
        Tcp = 0 => "tcp",
        /// UDP over IPv4 or IPv6.
        Udp = 1 => "udp",
        /// Unix stream socket.
        UnixStream = 2 => "unix_stream",
        /// Unix datagram or seqpacket socket.
        UnixDgram = 3 => "unix_dgram",
    }
}

numbered! {
    /// What was decided for a send.
    Verdict {
        /// The rule's filters did not match.
        Unmatched = 0 => "unmatched",
        /// Matched, but `when` or the probability left it out.
        Passed = 1 => "passed",
        /// Chosen, and the fault was delivered.
        Delivered = 2 => "delivered",
        /// Chosen, and only recorded: the mode is shadow.
        Shadowed = 3 => "shadowed",
        /// Chosen, and a guard let it through.
        Suppressed = 4 => "suppressed",
    }
}

numbered! {
    /// The guard that suppressed a fault.
    Guard {
        /// No guard.
        None = 0 => "none",
        /// The lease had expired.
        Lease = 1 => "lease",
        /// Ceiling on total injected delay.
        TotalDelay = 2 => "total_delay",
        /// Ceiling on injected delay per second.
        DelayRate = 3 => "delay_rate",
        /// Ceiling on acted sends per second.
        ActRate = 4 => "act_rate",
        /// Kernel thread.
        KernelThread = 5 => "kernel_thread",
        /// `io_uring` worker thread.
        IoWorker = 6 => "io_worker",
        /// Inline in `io_uring_enter`.
        IoUring = 7 => "io_uring",
        /// Socket without a file: the kernel's own.
        KernelSocket = 8 => "kernel_socket",
        /// Non-blocking send under `--blocking-only`.
        NonBlocking = 9 => "non_blocking",
        /// The hook cannot fail a send.
        NoErrorHook = 10 => "no_error_hook",
    }
}

/// Bits of [`SendRecord::flags`].
pub mod flags {
    /// The threshold was passed.
    pub const FLAGGED: u16 = 1;
    /// The rule's error was returned instead of sending; with
    /// [`Verdict::Shadowed`](crate::Verdict::Shadowed), it would have been.
    pub const FAILED: u16 = 1 << 1;
    /// The engine's ceiling cut the delay short.
    pub const CAPPED: u16 = 1 << 2;
    /// A signal was sent for passing the threshold.
    pub const SIGNALLED: u16 = 1 << 3;
    /// The send may not block (`O_NONBLOCK` or `MSG_DONTWAIT`).
    pub const NON_BLOCKING: u16 = 1 << 4;
    /// `bytes_asked` is not known.
    pub const BYTES_UNKNOWN: u16 = 1 << 5;
    /// The start was not seen, so there are no times.
    pub const NO_START: u16 = 1 << 6;
    /// The address family is `AF_INET6`.
    pub const IPV6: u16 = 1 << 7;
    /// The call was `sendmmsg`: one record for a batch.
    pub const BATCH: u16 = 1 << 8;
    /// The delay was cut short: by a signal that ends or stops the process, by
    /// the end of the run, or by the death of the sleep engine's server.
    pub const SHORTENED: u16 = 1 << 9;
    /// The delay came after the send itself, on the way back to the caller.
    pub const AFTER: u16 = 1 << 10;
    /// The return was not looked at, so there are neither result nor natural
    /// time.
    pub const NO_RETURN: u16 = 1 << 11;
    /// In shadow mode: a signal would have been sent for passing the threshold,
    /// whether the send was chosen or slow by itself.
    pub const WOULD_SIGNAL: u16 = 1 << 12;
}

/// One end of a socket. IP addresses use the first sixteen bytes (IPv4 as
/// [`crate::V4_MAPPED_PREFIX`]); unix sockets put the first bytes of their
/// path there (a leading zero marks an abstract name) and its length in `port`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address bytes, zero when unknown or unnamed.
    pub address: [u8; ENDPOINT_LEN],
    /// Port in host order; for unix sockets the whole length of the name, as
    /// the caller gave it: a zero at the end may be counted.
    pub port: u16,
    /// Zero.
    pub reserved: [u8; 6],
}

impl Endpoint {
    /// It is not known.
    pub const NOWHERE: Self = Self {
        address: [0; ENDPOINT_LEN],
        port: 0,
        reserved: [0; 6],
    };
}

/// One send, from the entry of the send path to its return.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRecord {
    /// When the hook was entered.
    pub start_ns: u64,
    /// Delay that was decided.
    pub asked_ns: u64,
    /// Delay that was measured.
    pub delivered_ns: u64,
    /// Time that the send itself took, without the delay. 0 when it was not
    /// measured: the send was failed, or its start was not seen.
    pub natural_ns: u64,
    /// Bytes that the caller asked to send.
    pub bytes_asked: u64,
    /// Bytes sent (messages with [`flags::BATCH`]), or a negative errno, also
    /// one of the kernel's own such as `ERESTARTSYS`.
    pub result: i64,
    /// Cgroup v2 id of the sender.
    pub cgroup: u64,
    /// Position of this send among the thread's matched sends, from 1.
    pub call_index: u64,
    /// Order in which the thread first sent, from 0: with `call_index` the key
    /// of the decision.
    pub thread_ordinal: u64,
    /// Number of the goroutine that sends; 0 when it is not known, or there is
    /// none.
    pub goroutine: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Own end.
    pub local: Endpoint,
    /// Other end.
    pub peer: Endpoint,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
    /// Bits of [`flags`].
    pub flags: u16,
    /// Index of the rule.
    pub rule: u8,
    /// A [`Verdict`].
    pub verdict: u8,
    /// A [`Guard`].
    pub guard: u8,
    /// A [`Hook`].
    pub hook: u8,
    /// A [`Protocol`].
    pub protocol: u8,
    /// Index into [`crate::SEND_FUNCTIONS`] or [`crate::SEND_SYSCALLS`],
    /// whichever the hook uses, or the [`Operation`] for [`Hook::Lsm`]; 0 and
    /// without meaning for [`Hook::SockSendLength`].
    pub place: u8,
}

impl SendRecord {
    /// Nothing is known.
    pub const EMPTY: Self = Self {
        start_ns: 0,
        asked_ns: 0,
        delivered_ns: 0,
        natural_ns: 0,
        bytes_asked: 0,
        result: 0,
        cgroup: 0,
        call_index: 0,
        thread_ordinal: 0,
        goroutine: 0,
        tgid: 0,
        tid: 0,
        local: Endpoint::NOWHERE,
        peer: Endpoint::NOWHERE,
        comm: [0; COMM_LEN],
        flags: 0,
        rule: 0,
        verdict: Verdict::Unmatched as u8,
        guard: Guard::None as u8,
        hook: 0,
        protocol: 0,
        place: 0,
    };
}

/// Return addresses that are kept of a send: enough to leave the standard
/// library of an HTTP server and reach its handler's caller.
pub const SEND_FRAMES: usize = 24;

/// Where a goroutine is that sends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendStack {
    /// [`SendRecord::start_ns`] of the send; with `tid`, the key to it.
    pub start_ns: u64,
    /// Number of the goroutine.
    pub goroutine: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// How many frames there are.
    pub depth: u64,
    /// The system call's instruction, then return addresses, innermost first.
    pub frames: [u64; SEND_FRAMES],
}

numbered! {
    /// What happened to a process.
    LifecycleKind {
        /// A target forked and the child became a target.
        Fork = 0 => "fork",
        /// A process executed a program.
        Exec = 1 => "exec",
        /// A target ended.
        Exit = 2 => "exit",
    }
}

/// A process started, changed or ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// Process id.
    pub tgid: u32,
    /// Parent for [`LifecycleKind::Fork`], else 0.
    pub parent: u32,
    /// A [`LifecycleKind`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

#[cfg(test)]
mod tests {
    use core::mem::size_of;

    use super::*;

    /// Padding would carry kernel stack bytes to userspace, and the verifier
    /// refuses to copy it.
    #[test]
    fn records_have_no_padding() {
        assert_eq!(size_of::<Endpoint>(), ENDPOINT_LEN + 2 + 6);
        assert_eq!(
            size_of::<SendRecord>(),
            10 * 8 + 2 * 4 + 2 * size_of::<Endpoint>() + COMM_LEN + 2 + 6
        );
        assert_eq!(size_of::<SendRecord>() % 8, 0);
        assert_eq!(size_of::<SendStack>(), 4 * 8 + SEND_FRAMES * 8);
        assert_eq!(size_of::<LifecycleEvent>(), 16);
        assert_eq!(
            size_of::<crate::InFlight>(),
            size_of::<SendRecord>() + 4 * 8 + 4 * 4
        );
        assert_eq!(size_of::<crate::Rule>(), 8 * 8 + 2 * 16 + 10 * 4);
        assert_eq!(size_of::<crate::Target>(), 8);
        assert_eq!(size_of::<crate::Offsets>() % 4, 0);
        assert_eq!(
            size_of::<crate::Setup>(),
            size_of::<crate::Offsets>() + 2 * 4
        );
    }

    #[test]
    fn numbers_and_names_round_trip() {
        for (verdict, name, _) in Verdict::ALL {
            assert_eq!(Verdict::from_number(*verdict as u8), Some(*verdict));
            assert_eq!(verdict.name(), *name);
        }
        assert_eq!(Verdict::from_number(200), None);
    }
}
