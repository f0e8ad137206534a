//! What userspace tells the kernel: rules, tables, limits, targets.

/// Rules that a plan can hold.
pub const MAX_RULES: u32 = 16;

/// Quantile tables: two per rule, so that a running rule can be given a new
/// distribution by filling the spare table and then switching.
pub const TABLES: u32 = MAX_RULES * 2;

/// Knots of a [`QuantileTable`]; see [`crate::decide::sample`].
pub const KNOTS: usize = 2048;

/// [`Rule::delay_table`] of a rule that does not delay.
pub const NO_DELAY: u32 = u32::MAX;

/// First twelve bytes of an IPv4 address written as an IPv6 one (RFC 4291,
/// 2.5.5.2). Both families are compared in this form.
pub const V4_MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// What happens to a send that passes the threshold.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverAction {
    /// Only the record is flagged.
    #[default]
    Flag = 0,
    /// `over_argument` is a signal for the sending thread.
    Signal = 1,
    /// `over_argument` is an errno that the send fails with.
    Error = 2,
}

/// One rule: filter on the send, `when`, fault.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Seed of all decisions of this rule.
    pub seed: u64,
    /// Peer network, IPv4 as [`V4_MAPPED_PREFIX`] addresses.
    pub peer_network: [u8; 16],
    /// Mask for `peer_network`; all zero matches every peer, unix ones too.
    pub peer_mask: [u8; 16],
    /// Least number of bytes asked to send.
    pub min_bytes: u64,
    /// First call of a thread that can be chosen, counted from 1.
    pub when_first: u64,
    /// Last call of a thread that can be chosen.
    pub when_last: u64,
    /// Distance between calls that can be chosen, at least 1.
    pub when_step: u64,
    /// Chance in 2³²: 0 never, 2³² always.
    pub probability: u64,
    /// A send that takes longer, or was asked to, is flagged. `u64::MAX`: none.
    pub threshold_ns: u64,
    /// Ceiling of one delay.
    pub max_delay_ns: u64,
    /// Index of the quantile table, or [`NO_DELAY`].
    pub delay_table: u32,
    /// Errno that a chosen send fails with, 0 for none.
    pub errno: u32,
    /// An [`OverAction`].
    pub over_action: u32,
    /// Signal number or errno for `over_action`.
    pub over_argument: u32,
    /// Bit set of [`crate::Protocol`] values.
    pub protocols: u32,
    /// Bit set of [`crate::Operation`] values.
    pub operations: u32,
    /// Zero.
    pub reserved: u32,
    /// Peer port in host order, 0 for any.
    pub peer_port: u32,
    /// 1: sends that may not block are left alone.
    pub blocking_only: u32,
    /// 1 when the slot is in use.
    pub active: u32,
}

/// The inverse cumulative distribution of a delay in nanoseconds, as knots
/// that [`crate::decide::sample`] interpolates between.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QuantileTable {
    /// Non-decreasing delays.
    pub knots: [u64; KNOTS],
}

/// Whether decisions are carried out.
#[repr(u64)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Decide and record only.
    #[default]
    Shadow = 0,
    /// Act.
    Enforce = 1,
}

/// Run-time control: written by the daemon, read by every hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Past this time every hook lets every send through; 0 once the run ends.
    pub lease_ns: u64,
    /// A [`Mode`].
    pub mode: u64,
    /// Ceiling on all injected delay together.
    pub max_total_delay_ns: u64,
    /// Ceiling on injected delay per second of wall time, all threads together.
    pub max_delay_ns_per_second: u64,
    /// Ceiling on acted sends per second.
    pub max_acts_per_second: u64,
    /// Longest time the spin engine may burn for one send.
    pub max_spin_ns: u64,
    /// Process that has the sleep engine's page, 0 without that engine.
    pub holder_pid: u64,
    /// Address of the first slot's page in that process.
    pub holder_address: u64,
    /// Zero: the hook that fails sends is not attached, which in shadow mode is
    /// no reason not to say what it would have done.
    pub error_hook: u64,
    /// Bytes waiting in the ring buffer from which a record wakes the daemon.
    pub wake_bytes: u64,
    /// Not 0: stacks of goroutines that send are reported.
    pub stacks: u64,
}

/// What has been used of the ceilings. Shared by all CPUs: a ceiling can be
/// passed by at most one send per CPU that is deciding at the same moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// The second (of the monotonic clock) that the two next fields count.
    pub second: u64,
    /// Delay injected in that second.
    pub delay_ns_in_second: u64,
    /// Sends acted on in that second.
    pub acts_in_second: u64,
    /// Delay injected since the start.
    pub total_delay_ns: u64,
    /// Acts that the ceiling on all delay forbade.
    pub total_refusals: u64,
    /// Threads that have been given an ordinal; counted in the first budget.
    pub threads: u64,
}

/// Budgets: one for each [`Mode`], so that what shadow mode only imagines is
/// not missing when the run acts.
pub const BUDGETS: u32 = 2;

/// Bits of [`Target::flags`].
pub mod target_flags {
    /// Children of this process become targets at fork.
    pub const INHERIT: u32 = 1;
}

/// Value of the target table; the key is the process id (tgid).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Index of the rule.
    pub rule: u32,
    /// Bits of [`target_flags`].
    pub flags: u32,
}
