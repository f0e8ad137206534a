//! Decisions, as pure functions of (seed, rule, thread, call index): the same
//! calls get the same decisions again, in the kernel and in a host test.

use crate::{KNOTS, OverAction, QuantileTable, Rule};

/// Bins of the first level of a [`QuantileTable`]; a power of two.
pub const BINS: u64 = 1024;

/// Which stream of random numbers a draw comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Whether the send is chosen.
    Choice = 1,
    /// How long its delay is.
    Delay = 2,
}

/// A uniform 64-bit number for one decision.
///
/// The mixing step is `SplitMix64` (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators", OOPSLA 2014), applied once per key part.
#[inline(always)]
pub fn random(seed: u64, rule: u64, thread: u64, call: u64, draw: Draw) -> u64 {
    // The seed is mixed alone first: else the choices of one seed would be the
    // delays of another.
    let mut state = mix(mix(seed) ^ (rule << 8 | draw as u64));
    state = mix(state ^ thread);
    mix(state ^ call)
}

#[inline(always)]
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether the `call`-th send of a thread (from 1) can be chosen at all:
/// strace's `first..last+step`.
#[inline(always)]
pub fn when(rule: &Rule, call: u64) -> bool {
    call >= rule.when_first
        && call <= rule.when_last
        && (rule.when_step <= 1 || (call - rule.when_first).is_multiple_of(rule.when_step))
}

/// Whether the dice choose this send.
#[inline(always)]
pub fn chance(rule: &Rule, random: u64) -> bool {
    (random >> 32) < rule.probability
}

/// The knots between which `random` falls, and the 24-bit position between
/// them.
///
/// The first level has [`BINS`] equal bins of probability. The last of them is
/// cut into [`BINS`] again, because the tail of a skewed distribution would
/// else be a straight line from its 99.9th percentile to its ceiling.
#[inline(always)]
pub fn locate(random: u64) -> (usize, u64) {
    let bin = random >> 54;
    if bin < BINS - 1 {
        (bin as usize, (random >> 30) & 0xff_ffff)
    } else {
        let fine = (random >> 44) & (BINS - 1);
        ((BINS - 1 + fine) as usize, (random >> 20) & 0xff_ffff)
    }
}

/// A delay in nanoseconds from the table, by linear interpolation.
///
/// Exact while neighbouring knots are less than 2⁴⁰ ns (18 minutes) apart; the
/// plan's ceiling on a delay is lower.
#[inline(always)]
pub fn sample(table: &QuantileTable, random: u64) -> u64 {
    let (index, position) = locate(random);
    // `index` is at most KNOTS - 2; the mask says so to the verifier.
    let index = index & (KNOTS - 1);
    let next = (index + 1) & (KNOTS - 1);
    // SAFETY: both indexes are masked to the length of the array, which is a
    // power of two. A bounds check would pull the panic machinery into BPF.
    let (low, high) = unsafe {
        (
            *table.knots.get_unchecked(index),
            *table.knots.get_unchecked(next),
        )
    };
    low + ((high.wrapping_sub(low).wrapping_mul(position)) >> 24)
}

/// The probability that lies below each knot: what userspace evaluates the
/// inverse distribution at to fill a [`QuantileTable`].
pub fn knot_probability(index: usize) -> f64 {
    let bins = BINS as f64;
    if index < BINS as usize {
        index as f64 / bins
    } else {
        (bins - 1.0) / bins + (index as f64 - (bins - 1.0)) / (bins * bins)
    }
}

/// The error that a chosen send fails with, 0 for none: the rule's own, or the
/// one for a delay over the threshold.
#[inline(always)]
pub fn error_for(rule: &Rule, asked_ns: u64) -> u32 {
    if rule.errno != 0 {
        rule.errno
    } else if asked_ns > rule.threshold_ns && rule.over_action == OverAction::Error as u32 {
        rule.over_argument
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NO_DELAY;

    fn rule() -> Rule {
        Rule {
            seed: 1,
            peer_network: [0; 16],
            peer_mask: [0; 16],
            min_bytes: 0,
            when_first: 1,
            when_last: u64::MAX,
            when_step: 1,
            probability: 1 << 32,
            threshold_ns: u64::MAX,
            max_delay_ns: u64::MAX,
            delay_table: NO_DELAY,
            errno: 0,
            over_action: OverAction::Flag as u32,
            over_argument: 0,
            protocols: 15,
            operations: 1,
            reserved: 0,
            peer_port: 0,
            blocking_only: 0,
            active: 1,
        }
    }

    #[test]
    fn when_follows_strace() {
        let rule = Rule {
            when_first: 3,
            when_last: 9,
            when_step: 2,
            ..rule()
        };
        let chosen = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map(|call| when(&rule, call));
        assert_eq!(
            chosen,
            [
                false, false, true, false, true, false, true, false, true, false, false
            ]
        );
    }

    #[test]
    fn probability_bounds_are_exact() {
        let never = Rule {
            probability: 0,
            ..rule()
        };
        let always = rule();
        for value in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(!chance(&never, value));
            assert!(chance(&always, value));
        }
    }

    #[test]
    fn streams_are_independent_and_repeat() {
        let first = random(7, 0, 0, 1, Draw::Choice);
        assert_eq!(first, random(7, 0, 0, 1, Draw::Choice));
        assert_ne!(first, random(7, 0, 0, 1, Draw::Delay));
        assert_ne!(first, random(7, 0, 0, 2, Draw::Choice));
        assert_ne!(first, random(7, 0, 1, 1, Draw::Choice));
        assert_ne!(first, random(7, 1, 0, 1, Draw::Choice));
        assert_ne!(first, random(8, 0, 0, 1, Draw::Choice));
    }

    /// Pearson's chi-square over 64 cells: 63 degrees of freedom, 0.1 % point
    /// 103.4. A generator with a visible pattern fails by orders of magnitude.
    #[test]
    fn draws_are_uniform() {
        for draw in [Draw::Choice, Draw::Delay] {
            let mut cells = [0u32; 64];
            let draws = 64_000;
            for call in 1..=draws {
                cells[(random(42, 0, 3, call, draw) >> 58) as usize] += 1;
            }
            let expected = draws as f64 / 64.0;
            let chi: f64 = cells
                .iter()
                .map(|&n| (f64::from(n) - expected).powi(2) / expected)
                .sum();
            assert!(chi < 103.4, "chi-square {chi}");
        }
    }

    #[test]
    fn table_covers_the_whole_range() {
        let mut table = QuantileTable { knots: [0; KNOTS] };
        for (index, knot) in table.knots.iter_mut().enumerate() {
            *knot = (knot_probability(index) * 1e9).round() as u64;
        }
        assert_eq!(table.knots[KNOTS - 1], 1_000_000_000);
        assert_eq!(sample(&table, 0), 0);
        assert!(sample(&table, u64::MAX) > 999_999_000);
        // A uniform law must come back as itself, in both levels.
        for step in 0..4096u64 {
            let random = step << 52 | 0x000f_0f0f_0f0f_0f0f;
            let want = random as f64 / 2f64.powi(64) * 1e9;
            let got = sample(&table, random) as f64;
            assert!((got - want).abs() <= 2.0, "{random:#x}: {got} vs {want}");
        }
        for step in 0..4096u64 {
            let random = 0xffc0_0000_0000_0000 | step << 42;
            let want = random as f64 / 2f64.powi(64) * 1e9;
            let got = sample(&table, random) as f64;
            assert!((got - want).abs() <= 2.0, "{random:#x}: {got} vs {want}");
        }
    }

    #[test]
    fn over_threshold_error_needs_the_threshold() {
        let rule = Rule {
            threshold_ns: 100,
            over_action: OverAction::Error as u32,
            over_argument: 110,
            ..rule()
        };
        assert_eq!(error_for(&rule, 100), 0);
        assert_eq!(error_for(&rule, 101), 110);
        let always = Rule { errno: 104, ..rule };
        assert_eq!(error_for(&always, 0), 104);
    }
}
