//! What a send costs more with a hook, measured with a client of our own.

use std::time::Duration;

use anyhow::Result;
use injector_ebpf::{Hook, Mode, QuantileTable, Rule, SendRecord, Target, Verdict};

use crate::{
    kernel::{Kernel, client::Client},
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
    /// The chance that this range holds the median, whatever the law of the
    /// differences, in percent.
    pub confidence: u8,
}

impl Effort {
    /// A fraction of a second for each hook, which is attached only once: to take
    /// tracepoints away takes a second.
    pub const QUICK: Self = Self {
        rounds: 6,
        round: Duration::from_millis(12),
        left_out: 0,
        confidence: 97,
    };
    /// As exact as the host allows.
    pub const THOROUGH: Self = Self {
        rounds: 9,
        round: Duration::from_millis(60),
        left_out: 1,
        confidence: 96,
    };
}

/// Sends of one round, at least and at most.
const SENDS: (u64, u64) = (200, 20_000);
/// Sends from which the length of a round is estimated.
const TRIAL_SENDS: u64 = 500;
/// Sends that the spin engine delays.
const SPIN_SENDS: u64 = 200;
/// Longer than any round; it goes with the process in any case.
const LEASE: Duration = Duration::from_secs(30);
/// Slot of the rule table.
const RULE: u32 = 0;
/// Records taken from the ring at once.
const BATCH: usize = 1 << 16;

/// What the measured client meets.
pub struct Bench<'a> {
    /// A rule that only observes.
    pub observing: Rule,
    /// A rule that delays every send, with its table.
    pub delaying: (Rule, &'a QuantileTable),
    /// The delay that it asks for.
    pub asked: Duration,
}

/// A difference in nanoseconds per send, and the interval that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// The whole interval is above zero.
    Measured {
        /// Median.
        ns: u64,
        /// Lower end.
        low_ns: u64,
        /// Upper end.
        high_ns: u64,
    },
    /// The interval holds zero, or the noise made the hook look like a gain:
    /// the price is less than this.
    BelowNoise {
        /// The end that is further from zero.
        noise_ns: u64,
    },
}

/// What a send costs more with a hook.
#[derive(Clone, Copy, Debug)]
pub struct HookPrice {
    /// The hook.
    pub hook: Hook,
    /// For a process that is no target.
    pub bystander: Price,
    /// For a target whose sends are only observed.
    pub target: Price,
}

/// Delays that the spin engine delivered.
#[derive(Clone, Copy, Debug)]
pub struct SpinAccuracy {
    /// Where.
    pub hook: Hook,
    /// What was asked for.
    pub asked_ns: u64,
    /// Delayed sends.
    pub count: u64,
    /// Median of what was delivered.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

/// What was measured on this host.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How much was done.
    pub effort: Effort,
    /// Sends of each round.
    pub sends: u64,
    /// A send without a hook: median of all rounds.
    pub baseline_ns: u64,
    /// Each hook.
    pub hooks: Vec<HookPrice>,
    /// The engine, if a delay was delivered.
    pub spin: Option<SpinAccuracy>,
}

/// Measures each of `hooks` with a client of our own; `round` hears how far it
/// is. Baseline and hook alternate, so that what the host does meanwhile meets
/// both alike.
pub fn measure(
    kernel: &mut Kernel,
    hooks: &[Hook],
    bench: &Bench,
    mut round: impl FnMut(usize, u64),
) -> Result<Measured> {
    let effort = Effort::THOROUGH;
    let (mut records, sends) = prepare(kernel, &bench.observing, effort)?;

    let mut baselines = Vec::new();
    let mut bystander = vec![Vec::new(); hooks.len()];
    let mut target = vec![Vec::new(); hooks.len()];
    for number in 0..effort.rounds {
        round(number + 1, sends);
        for (index, &hook) in hooks.iter().enumerate() {
            let before = (number % 2 == 0).then(|| send(sends)).transpose()?;
            kernel.attach(hook)?;
            let beside = send(sends);
            let observed = send_as_target(kernel, sends);
            kernel.detach(hook);
            records.drain(BATCH, |_| Ok(()))?;
            let baseline = match before {
                Some(baseline) => baseline,
                None => send(sends)?,
            };
            baselines.push(baseline);
            bystander[index].push(beside?.cast_signed() - baseline.cast_signed());
            target[index].push(observed?.cast_signed() - baseline.cast_signed());
        }
    }
    let prices = hooks.iter().zip(bystander).zip(target);
    let prices = prices.map(|((&hook, bystander), target)| HookPrice {
        hook,
        bystander: price(bystander, effort),
        target: price(target, effort),
    });
    baselines.sort_unstable();
    Ok(Measured {
        effort,
        sends,
        baseline_ns: baselines[baselines.len() / 2],
        hooks: prices.collect(),
        spin: match hooks.first() {
            Some(&hook) => spin(kernel, hook, bench, &mut records)?,
            None => None,
        },
    })
}

/// The short measurement: of each hook while it is tried, with half of the
/// baseline before it and half after it.
pub struct Quick {
    records: Events<SendRecord>,
    sends: u64,
    baselines: Vec<u64>,
    all_baselines: Vec<u64>,
    hooks: Vec<HookPrice>,
}

impl Quick {
    const EFFORT: Effort = Effort::QUICK;

    /// Makes ready; attaches nothing.
    pub fn new(kernel: &mut Kernel, observing: &Rule) -> Result<Self> {
        let (records, sends) = prepare(kernel, observing, Self::EFFORT)?;
        Ok(Self {
            records,
            sends,
            baselines: Vec::new(),
            all_baselines: Vec::new(),
            hooks: Vec::new(),
        })
    }

    /// Before a hook is attached.
    pub fn before(&mut self) -> Result<()> {
        self.baselines.clear();
        self.half_a_baseline()
    }

    /// While it is attached.
    pub fn attached(&mut self, kernel: &mut Kernel) -> Result<Vec<[u64; 2]>> {
        let round = |_| {
            let prices = [send(self.sends)?, send_as_target(kernel, self.sends)?];
            self.records.drain(BATCH, |_| Ok(()))?;
            Ok(prices)
        };
        (0..Self::EFFORT.rounds).map(round).collect()
    }

    /// When it has been taken away, with what [`Self::attached`] gave.
    pub fn after(&mut self, hook: Hook, hooked: &[[u64; 2]]) -> Result<()> {
        self.half_a_baseline()?;
        let differences = |which: usize| {
            let pairs = hooked.iter().zip(&self.baselines);
            pairs
                .map(|(hooked, baseline)| hooked[which].cast_signed() - baseline.cast_signed())
                .collect()
        };
        self.hooks.push(HookPrice {
            hook,
            bystander: price(differences(0), Self::EFFORT),
            target: price(differences(1), Self::EFFORT),
        });
        self.all_baselines.append(&mut self.baselines);
        Ok(())
    }

    /// What it came to; nothing, if no hook could be attached.
    pub fn finish(mut self) -> Option<Measured> {
        self.all_baselines.sort_unstable();
        let baseline_ns = *self.all_baselines.get(self.all_baselines.len() / 2)?;
        Some(Measured {
            effort: Self::EFFORT,
            sends: self.sends,
            baseline_ns,
            hooks: self.hooks,
            spin: None,
        })
    }

    fn half_a_baseline(&mut self) -> Result<()> {
        for _ in 0..Self::EFFORT.rounds / 2 {
            self.baselines.push(send(self.sends)?);
        }
        Ok(())
    }
}

/// Makes ready to observe, and tells how many sends make a round.
fn prepare(
    kernel: &mut Kernel,
    observing: &Rule,
    effort: Effort,
) -> Result<(Events<SendRecord>, u64)> {
    let records = Events::new(kernel.take_sends()?);
    kernel.set_rule(RULE, observing, None)?;
    kernel.set_control(|control| control.mode = Mode::Shadow as u64)?;
    let trial = send(TRIAL_SENDS)?;
    let sends = (effort.round.as_nanos() as u64 / trial.max(1)).clamp(SENDS.0, SENDS.1);
    Ok((records, sends))
}

fn spin(
    kernel: &mut Kernel,
    hook: Hook,
    bench: &Bench,
    records: &mut Events<SendRecord>,
) -> Result<Option<SpinAccuracy>> {
    let asked_ns = bench.asked.as_nanos() as u64;
    let (rule, table) = &bench.delaying;
    kernel.set_rule(RULE, rule, Some(table))?;
    kernel.set_control(|control| {
        control.mode = Mode::Enforce as u64;
        control.max_total_delay_ns = u64::MAX;
        control.max_delay_ns_per_second = u64::MAX;
        control.max_acts_per_second = u64::MAX;
        control.max_spin_ns = 2 * asked_ns;
    })?;
    kernel.attach(hook)?;
    let sent = send_as_target(kernel, SPIN_SENDS);
    kernel.detach(hook);
    sent?;
    let mut delivered = Vec::new();
    records.drain(BATCH, |record| {
        if record.verdict == Verdict::Delivered as u8 {
            delivered.push(record.delivered_ns);
        }
        Ok(())
    })?;
    delivered.sort_unstable();
    let (Some(&p50_ns), Some(&p99_ns), Some(&max_ns)) = (
        delivered.get(delivered.len() / 2),
        delivered.get(delivered.len() * 99 / 100),
        delivered.last(),
    ) else {
        return Ok(None);
    };
    Ok(Some(SpinAccuracy {
        hook,
        asked_ns,
        count: delivered.len() as u64,
        p50_ns,
        p99_ns,
        max_ns,
    }))
}

fn send(sends: u64) -> Result<u64> {
    Client::start(sends, Duration::ZERO)?.send()
}

fn send_as_target(kernel: &mut Kernel, sends: u64) -> Result<u64> {
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

/// The median of the differences and the interval that holds it.
fn price(mut differences: Vec<i64>, effort: Effort) -> Price {
    differences.sort_unstable();
    let last = differences.len() - 1;
    let left_out = effort.left_out.min(last / 2);
    let (low, high) = (differences[left_out], differences[last - left_out]);
    if low <= 0 {
        return Price::BelowNoise {
            noise_ns: low.unsigned_abs().max(high.unsigned_abs()),
        };
    }
    Price::Measured {
        ns: differences[last / 2].unsigned_abs(),
        low_ns: low.unsigned_abs(),
        high_ns: high.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_made_out_of_noise() {
        let all_above = vec![52, 40, 45, 48, 50, 41, 300, 47, -9];
        assert_eq!(
            price(all_above.clone(), Effort::THOROUGH),
            Price::Measured {
                ns: 47,
                low_ns: 40,
                high_ns: 52
            }
        );
        // Without leaving out the ends there is one below zero.
        assert_eq!(
            price(all_above, Effort::QUICK),
            Price::BelowNoise { noise_ns: 300 }
        );
        let around_zero = vec![3, -2, 5, -7, 0, 4, 9, -1, 2];
        assert_eq!(
            price(around_zero, Effort::THOROUGH),
            Price::BelowNoise { noise_ns: 5 }
        );
        // A hook cannot make sends faster.
        let below_zero = vec![-30; 9];
        assert_eq!(
            price(below_zero, Effort::THOROUGH),
            Price::BelowNoise { noise_ns: 30 }
        );
    }

    /// The median lies outside the range when all differences but those that
    /// are left out fall on one side of it.
    #[test]
    fn ranges_hold_the_median_as_often_as_is_said() {
        for effort in [Effort::QUICK, Effort::THOROUGH] {
            let (mut ways, mut choose) = (0.0, 1.0);
            for one_side in 0..=effort.left_out {
                ways += choose;
                choose *= (effort.rounds - one_side) as f64 / (one_side + 1) as f64;
            }
            let chance = 100.0 * (1.0 - 2.0 * ways / f64::from(1 << effort.rounds));
            assert_eq!(chance.round() as u8, effort.confidence);
        }
    }
}
