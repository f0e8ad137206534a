//! What a send costs more with a hook.

use anyhow::Result;
use injector_ebpf::Hook;

use super::bench::{Bench, Effort};
use crate::kernel::Kernel;

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

/// What sends cost.
#[derive(Clone, Debug)]
pub struct Prices {
    /// A send without a hook, in nanoseconds: median of all rounds.
    pub baseline_ns: u64,
    /// Each hook.
    pub hooks: Vec<HookPrice>,
}

/// Prices each of `hooks`; `round` hears how far it is. Baseline and hook
/// alternate, so that what the host does meanwhile meets both alike.
pub fn measure(
    kernel: &mut Kernel,
    hooks: &[Hook],
    bench: &mut Bench,
    mut round: impl FnMut(usize, u64),
) -> Result<Prices> {
    let effort = bench.effort;
    let mut baselines = Vec::new();
    let mut bystander = vec![Vec::new(); hooks.len()];
    let mut target = vec![Vec::new(); hooks.len()];
    for number in 0..effort.rounds {
        round(number + 1, bench.sends);
        for (index, &hook) in hooks.iter().enumerate() {
            let before = (number % 2 == 0).then(|| bench.send()).transpose()?;
            kernel.attach(hook)?;
            let beside = bench.send();
            let observed = bench.observe(kernel);
            kernel.detach(hook);
            let baseline = match before {
                Some(baseline) => baseline,
                None => bench.send()?,
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
    Ok(Prices {
        baseline_ns: baselines[baselines.len() / 2],
        hooks: prices.collect(),
    })
}

/// The short measurement: of each hook while it is tried, with half of the
/// baseline before it and half after it.
#[derive(Default)]
pub struct Quick {
    baselines: Vec<u64>,
    all_baselines: Vec<u64>,
    hooks: Vec<HookPrice>,
}

impl Quick {
    /// Before a hook is attached.
    pub fn before(&mut self, bench: &Bench) -> Result<()> {
        self.baselines.clear();
        self.half_a_baseline(bench)
    }

    /// While it is attached.
    pub fn attached(bench: &mut Bench, kernel: &mut Kernel) -> Result<Vec<[u64; 2]>> {
        let rounds = bench.effort.rounds;
        let round = |_| Ok([bench.send()?, bench.observe(kernel)?]);
        (0..rounds).map(round).collect()
    }

    /// When it has been taken away, with what [`Self::attached`] gave.
    pub fn after(&mut self, bench: &Bench, hook: Hook, hooked: &[[u64; 2]]) -> Result<()> {
        self.half_a_baseline(bench)?;
        let differences = |which: usize| {
            let pairs = hooked.iter().zip(&self.baselines);
            pairs
                .map(|(hooked, baseline)| hooked[which].cast_signed() - baseline.cast_signed())
                .collect()
        };
        self.hooks.push(HookPrice {
            hook,
            bystander: price(differences(0), bench.effort),
            target: price(differences(1), bench.effort),
        });
        self.all_baselines.append(&mut self.baselines);
        Ok(())
    }

    /// What it came to; nothing, if no hook could be attached.
    pub fn finish(mut self) -> Option<Prices> {
        self.all_baselines.sort_unstable();
        let baseline_ns = *self.all_baselines.get(self.all_baselines.len() / 2)?;
        Some(Prices {
            baseline_ns,
            hooks: self.hooks,
        })
    }

    fn half_a_baseline(&mut self, bench: &Bench) -> Result<()> {
        for _ in 0..bench.effort.rounds / 2 {
            self.baselines.push(bench.send()?);
        }
        Ok(())
    }
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
