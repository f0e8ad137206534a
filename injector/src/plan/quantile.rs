//! From the law of a delay to the table that the kernel side draws from.
//!
//! The kernel side interpolates linearly between the knots of an inverse
//! distribution ([`decide::sample`]), so a law comes out as close as its knots
//! lie: 1023 bins of 1/1024 of all draws, and the last 1/1024 cut in 1024 again.
//! What that means beyond rounding to nanoseconds:
//!
//! - A draw outside 0 and `max_delay` counts as the nearer of the two.
//! - A law without an upper end (normal, exponential, Pareto) is cut off at its
//!   quantile 1 − 2⁻²¹, and the normal law below at its quantile 2⁻¹¹: the
//!   middle of the outermost bin. Were the outermost knots at the ceilings
//!   instead, one draw in a million of `normal(80ms,20ms)` would be anything
//!   up to `max_delay`, and pass thresholds that the law never reaches.
//! - A histogram jumps from one listed value to the next within one bin. So at
//!   most 1/1024 (0.098 %) of the draws fall between two neighbours, or 2⁻²⁰ in
//!   the topmost 1/1024; the share of each value is right to the same amount. A
//!   value that is rarer than 1/1024 and not among the largest can be missed.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use injector_ebpf::{KNOTS, QuantileTable, decide};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{
    delay::Delay,
    duration::nanos,
    histogram::{Histogram, HistogramError},
};

/// A table that could not be made, because the law is in a file.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file could not be read.
    #[error("cannot read the histogram {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The text is not a histogram.
    #[error("histogram {}: {error}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: HistogramError,
    },
}

/// The table of a law, with every delay within 0 and `max_delay`. `read` gives
/// the text of a histogram's file and is not called for other laws.
pub fn table(
    delay: &Delay,
    max_delay: Duration,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Box<QuantileTable>, TableError> {
    let ns = |duration: &Duration| nanos(*duration) as f64;
    Ok(match delay {
        Delay::Fixed(delay) => fill(max_delay, |_| ns(delay)),
        Delay::Uniform { from, to } => fill(max_delay, |index| {
            ns(from) + (ns(to) - ns(from)) * decide::knot_probability(index)
        }),
        Delay::Normal { mean, deviation } => {
            let unit = Normal::standard();
            fill(max_delay, |index| {
                ns(mean) + ns(deviation) * unit.inverse_cdf(inside(index))
            })
        }
        Delay::Exponential { mean } => {
            fill(max_delay, |index| -ns(mean) * (-below_end(index)).ln_1p())
        }
        Delay::Pareto { scale, shape } => fill(max_delay, |index| {
            ns(scale) * (1.0 - below_end(index)).powf(-1.0 / shape)
        }),
        Delay::Histogram { path } => {
            let text = read(path).map_err(|error| TableError::Unreadable {
                path: path.clone(),
                error,
            })?;
            let histogram: Histogram = text.parse().map_err(|error| TableError::Malformed {
                path: path.clone(),
                error,
            })?;
            fill(max_delay, |index| {
                histogram.quantile(decide::knot_probability(index)) as f64
            })
        }
    })
}

/// Probability of a knot, and for the last one of a point that a law without
/// an upper end can be evaluated at; see the module.
fn below_end(index: usize) -> f64 {
    if index == KNOTS - 1 {
        f64::midpoint(
            decide::knot_probability(KNOTS - 2),
            decide::knot_probability(KNOTS - 1),
        )
    } else {
        decide::knot_probability(index)
    }
}

/// [`below_end`] for a law that has no lower end either.
fn inside(index: usize) -> f64 {
    if index == 0 {
        decide::knot_probability(1) / 2.0
    } else {
        below_end(index)
    }
}

/// Evaluates a law, in nanoseconds, at every knot.
fn fill(max_delay: Duration, quantile_ns: impl Fn(usize) -> f64) -> Box<QuantileTable> {
    let mut table = Box::new(QuantileTable { knots: [0; KNOTS] });
    let max_ns = nanos(max_delay);
    let mut least = 0;
    for (index, knot) in table.knots.iter_mut().enumerate() {
        // The cast takes what is below zero to 0. The approximation of the
        // inverse normal is not monotone in its last digit, hence `least`.
        let ns = quantile_ns(index).round() as u64;
        *knot = ns.min(max_ns).max(least);
        least = *knot;
    }
    table
}

#[cfg(test)]
mod tests {
    use decide::Draw;
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{check::MAX_DELAY, delay::tests::laws};

    const CEILING: Duration = Duration::from_secs(2);
    const MS: f64 = 1e6;

    fn table_of(law: &str) -> Box<QuantileTable> {
        let no_file = |_: &Path| panic!("{law} needs no file");
        table(&law.parse().unwrap(), CEILING, no_file).unwrap()
    }

    fn histogram(text: &str) -> Result<Box<QuantileTable>, TableError> {
        let delay = "histogram:some.txt".parse().unwrap();
        table(&delay, CEILING, |path| {
            assert_eq!(path, Path::new("some.txt"));
            Ok(text.to_owned())
        })
    }

    /// Draws as the kernel side does, for one thread of one seed.
    fn draws(table: &QuantileTable, calls: u64) -> Vec<u64> {
        (1..=calls)
            .map(|call| decide::sample(table, decide::random(42, 0, 0, call, Draw::Delay)))
            .collect()
    }

    /// Kolmogorov–Smirnov test at the 0.1 % point, 1.95/√n, of 20000 draws
    /// against a distribution function that has jumps at 0 and the ceiling.
    fn follows(law: &str, distribution: impl Fn(f64) -> f64) {
        let mut draws = draws(&table_of(law), 20_000);
        draws.sort_unstable();
        let count = draws.len() as f64;
        let mut worst: f64 = 0.0;
        let mut below = 0;
        for same in draws.chunk_by(|a, b| a == b) {
            let (ns, upto) = (same[0], below + same.len());
            let smooth = distribution(ns as f64);
            let left = if ns == 0 { 0.0 } else { smooth };
            let right = if ns == nanos(CEILING) { 1.0 } else { smooth };
            worst = worst
                .max((below as f64 / count - left).abs())
                .max((upto as f64 / count - right).abs());
            below = upto;
        }
        assert!(worst * count.sqrt() < 1.95, "{law}: {worst}");
    }

    #[test]
    fn draws_follow_the_uniform_law() {
        follows("0..1200ms", |x| x / (1200.0 * MS));
        follows("500ms..1s", |x| (x - 500.0 * MS) / (500.0 * MS));
        // A quarter is above the ceiling.
        follows("1s..2333333us", |x| (x - 1000.0 * MS) / (1_333.333 * MS));
    }

    #[test]
    fn draws_follow_the_normal_law() {
        let normal = |mean, deviation| {
            let law = Normal::new(mean * MS, deviation * MS).unwrap();
            move |x| law.cdf(x)
        };
        follows("normal(80ms,20ms)", normal(80.0, 20.0));
        // A sixth is below zero, and a sixth above the ceiling.
        follows("normal(20ms,20ms)", normal(20.0, 20.0));
        follows("normal(1900ms,100ms)", normal(1900.0, 100.0));
    }

    #[test]
    fn draws_follow_the_exponential_law() {
        follows("exp(30ms)", |x| 1.0 - (-x / (30.0 * MS)).exp());
        follows("exp(1s)", |x| 1.0 - (-x / (1000.0 * MS)).exp());
    }

    #[test]
    fn draws_follow_the_pareto_law() {
        let pareto = |scale: f64, shape| move |x: f64| 1.0 - (scale * MS / x).powf(shape);
        follows("pareto(10ms,1.5)", pareto(10.0, 1.5));
        follows("pareto(10ms,0.5)", pareto(10.0, 0.5));
        follows("pareto(100ms,8)", pareto(100.0, 8.0));
    }

    #[test]
    fn a_fixed_delay_is_exact() {
        assert!(
            draws(&table_of("50ms"), 1000)
                .iter()
                .all(|ns| *ns == 50_000_000)
        );
        assert!(
            draws(&table_of("3s"), 1000)
                .iter()
                .all(|ns| *ns == nanos(CEILING))
        );
    }

    /// Pearson's chi-square with 3 degrees of freedom: 0.1 % point 16.27.
    #[test]
    fn a_histogram_gives_its_values_in_their_proportions() {
        let listed = [(1, 50.0), (10, 30.0), (100, 15.0), (1000, 5.0)];
        let table = histogram("10ms 30\n1ms 50\n1s 5\n100ms 15").unwrap();
        let draws = draws(&table, 100_000);
        let mut counts = [0_u32; 4];
        let mut between = [0_u32; 3];
        for ns in &draws {
            let ms = *ns as f64 / MS;
            let upper = listed.iter().position(|(value, _)| ms <= f64::from(*value));
            let upper = upper.unwrap();
            if ms < f64::from(listed[upper].0) {
                between[upper - 1] += 1;
                let nearer = ms * 2.0 < f64::from(listed[upper].0 + listed[upper - 1].0);
                counts[upper - usize::from(nearer)] += 1;
            } else {
                counts[upper] += 1;
            }
        }
        let chi: f64 = listed
            .iter()
            .zip(counts)
            .map(|((_, percent), count)| {
                let want = percent * 1000.0;
                (f64::from(count) - want).powi(2) / want
            })
            .sum();
        assert!(chi < 16.27, "chi-square {chi}: {counts:?}");
        // 0.098 % each; 200 in 100000 would be ten deviations away.
        assert!(between.iter().all(|count| *count < 200), "{between:?}");
    }

    #[test]
    fn a_rare_largest_value_is_resolved_in_the_fine_bins() {
        let table = histogram("1ms 99.99\n1s 0.01").unwrap();
        let high = (1..KNOTS)
            .filter(|index| table.knots[*index] > nanos(Duration::from_millis(1)))
            .map(|index| decide::knot_probability(index) - decide::knot_probability(index - 1))
            .sum::<f64>();
        assert!((high - 1e-4).abs() <= 2f64.powi(-20), "{high}");
    }

    #[test]
    fn values_above_the_ceiling_count_as_the_ceiling() {
        let table = histogram("1ms 1\n1h 1").unwrap();
        assert_eq!(table.knots[KNOTS - 1], nanos(CEILING));
    }

    #[test]
    fn a_file_that_fails_is_named() {
        let delay = "histogram:gone.txt".parse().unwrap();
        let gone = table(&delay, CEILING, |_| Err(io::ErrorKind::NotFound.into()));
        assert_eq!(
            gone.unwrap_err().to_string(),
            "cannot read the histogram gone.txt: entity not found"
        );
        let error = histogram("1ms").unwrap_err().to_string();
        assert!(error.starts_with("histogram some.txt: line 1: "), "{error}");
    }

    /// The case in the module's comment.
    #[test]
    fn an_endless_law_does_not_reach_for_the_ceiling() {
        assert!(table_of("normal(80ms,20ms)").knots[KNOTS - 1] < 180_000_000);
        assert!(table_of("normal(1s,10ms)").knots[0] > 960_000_000);
        assert!(table_of("exp(30ms)").knots[KNOTS - 1] < 450_000_000);
        assert_eq!(
            table_of("pareto(10ms,1.5)").knots[KNOTS - 1],
            nanos(CEILING)
        );
    }

    #[test]
    fn the_mean_is_that_of_the_law_and_of_the_draws() {
        for (law, want_ms) in [
            ("50ms", 50.0),
            ("0..1200ms", 600.0),
            ("normal(80ms,20ms)", 80.0),
            ("exp(30ms)", 30.0),
            ("pareto(10ms,3)", 15.0),
        ] {
            let table = table_of(law);
            let mean = mean_asked(&table).as_secs_f64() * 1e3;
            assert!((mean / want_ms - 1.0).abs() < 0.001, "{law}: {mean}");
            let draws = draws(&table, 100_000);
            let average = draws.iter().sum::<u64>() as f64 / draws.len() as f64 / MS;
            assert!((average / mean - 1.0).abs() < 0.01, "{law}: {average}");
        }
    }

    /// The mean of what [`decide::sample`] draws from a table, to the nanosecond:
    /// what the asked delays of many sends should average to.
    fn mean_asked(table: &QuantileTable) -> Duration {
        let mean: f64 = (1..KNOTS)
            .map(|index| {
                let share = decide::knot_probability(index) - decide::knot_probability(index - 1);
                share * (table.knots[index - 1] as f64 + table.knots[index] as f64) / 2.0
            })
            .sum();
        Duration::from_nanos(mean.round() as u64)
    }

    proptest! {
        #[test]
        fn tables_never_fall_and_stay_in_bounds(
            delay in laws(),
            max_ns in 1..=MAX_DELAY.as_nanos() as u64,
            random in any::<u64>(),
        ) {
            let no_file = |_: &Path| panic!("no law here needs a file");
            let table = table(&delay, Duration::from_nanos(max_ns), no_file).unwrap();
            prop_assert!(table.knots.is_sorted());
            prop_assert!(table.knots[KNOTS - 1] <= max_ns);
            let longest = delay.longest().map_or(u64::MAX, nanos);
            prop_assert!(table.knots[KNOTS - 1] <= longest);
            // What `sample` multiplies fits its 64 bits.
            let (index, _) = decide::locate(random);
            let drawn = decide::sample(&table, random);
            prop_assert!((table.knots[index]..=table.knots[index + 1]).contains(&drawn));
        }
    }
}
