//! What is measured with: a client of our own, as a bystander or as a target.

use std::time::Duration;

use anyhow::Result;
use injector_ebpf::{Mode, QuantileTable, Rule, SendRecord, Target, Verdict};

use crate::{
    kernel::{
        Kernel,
        client::{Client, Sent},
    },
    stream::Events,
};

/// How much a measurement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds.
    pub rounds: usize,
    /// How long the sends of one round should take.
    pub round: Duration,
    /// Differences that are left out at either end, for the range.
    pub left_out: usize,
    /// Delays of each engine.
    pub delays: u64,
    /// The chance that this range holds the median, whatever the law of the
    /// differences, in percent.
    pub confidence: u8,
}

impl Effort {
    /// A fraction of a second for each hook, which is attached only once: to take
    /// tracepoints away takes a second. Less than a second for the engines.
    pub const QUICK: Self = Self {
        rounds: 6,
        round: Duration::from_millis(12),
        left_out: 0,
        delays: 300,
        confidence: 97,
    };
    /// As exact as the host allows.
    pub const THOROUGH: Self = Self {
        rounds: 9,
        round: Duration::from_millis(60),
        left_out: 1,
        delays: 1_000,
        confidence: 96,
    };
}

/// Sends of one round, at least and at most.
const SENDS: (u64, u64) = (200, 20_000);
/// Sends from which the length of a round is estimated.
const TRIAL_SENDS: u64 = 500;
/// Longer than any round; it goes with the process in any case.
const LEASE: Duration = Duration::from_secs(30);
/// Slot of the rule table.
const RULE: u32 = 0;
/// Records taken from the ring at once.
const BATCH: usize = 1 << 16;

/// What the client meets as a target.
pub struct Rules {
    /// A rule that only observes.
    pub observing: Rule,
    /// A rule that delays every send.
    pub delaying: Rule,
    /// Its table.
    pub table: Box<QuantileTable>,
    /// The delay that it asks for.
    pub asked: Duration,
}

/// The client with its rules, and the records of what became of its sends.
pub struct Bench {
    /// How much is done.
    pub effort: Effort,
    /// Sends of one round.
    pub sends: u64,
    rules: Rules,
    records: Events<SendRecord>,
}

/// Sends that were delayed.
pub struct Delayed {
    /// How far each was from what was asked, in nanoseconds, sorted.
    pub off_ns: Vec<u64>,
    /// CPU time of one send, in nanoseconds.
    pub cpu_ns: u64,
}

impl Bench {
    /// Makes ready to observe; attaches nothing.
    pub fn new(kernel: &mut Kernel, rules: Rules, effort: Effort) -> Result<Self> {
        let records = Events::new(kernel.take_sends()?);
        kernel.set_rule(RULE, &rules.observing, None)?;
        kernel.set_control(|control| control.mode = Mode::Shadow as u64)?;
        let trial = send(TRIAL_SENDS)?;
        let sends = (effort.round.as_nanos() as u64 / trial.max(1)).clamp(SENDS.0, SENDS.1);
        Ok(Self {
            effort,
            sends,
            rules,
            records,
        })
    }

    /// What a send takes that is no target's, in nanoseconds.
    pub fn send(&self) -> Result<u64> {
        send(self.sends)
    }

    /// What a send takes that is observed, in nanoseconds.
    pub fn observe(&mut self, kernel: &mut Kernel) -> Result<u64> {
        let sent = send_as_target(kernel, self.sends);
        self.records.drain(BATCH, |_| Ok(()))?;
        Ok(sent?.ns)
    }

    /// From now on, what is observed is delayed, too.
    pub fn set_delay(&self, kernel: &mut Kernel) -> Result<()> {
        kernel.set_rule(RULE, &self.rules.delaying, Some(&self.rules.table))?;
        kernel.set_control(|control| {
            control.mode = Mode::Enforce as u64;
            control.max_total_delay_ns = u64::MAX;
            control.max_delay_ns_per_second = u64::MAX;
            control.max_acts_per_second = u64::MAX;
            control.max_spin_ns = 2 * self.asked_ns();
        })
    }

    /// The delay that is asked for, in nanoseconds.
    pub fn asked_ns(&self) -> u64 {
        self.rules.asked.as_nanos() as u64
    }

    /// Sends of a target that are delayed.
    pub fn delay(&mut self, kernel: &mut Kernel) -> Result<Delayed> {
        let sent = send_as_target(kernel, self.effort.delays);
        let asked_ns = self.asked_ns();
        let mut off_ns = Vec::new();
        self.records.drain(BATCH, |record| {
            if record.verdict == Verdict::Delivered as u8 {
                off_ns.push(record.delivered_ns.abs_diff(asked_ns));
            }
            Ok(())
        })?;
        off_ns.sort_unstable();
        Ok(Delayed {
            off_ns,
            cpu_ns: sent?.cpu_ns,
        })
    }
}

fn send(sends: u64) -> Result<u64> {
    Ok(Client::start(sends, Duration::ZERO)?.send()?.ns)
}

fn send_as_target(kernel: &mut Kernel, sends: u64) -> Result<Sent> {
    let client = Client::start(sends, Duration::ZERO)?;
    let pid = client.pid();
    let target = Target {
        rule: RULE,
        flags: 0,
    };
    kernel.add_target(pid, target)?;
    kernel.renew_lease(LEASE)?;
    let sent = client.send();
    kernel.remove_target(pid);
    kernel.renew_lease(Duration::ZERO)?;
    sent
}
