//! A distribution of times.

use hdrhistogram::Histogram;

/// Longest time that a percentile can name: one hour. Longer ones count as that
/// in percentiles; [`Times::max`] is exact.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Significant digits of a percentile.
const DIGITS: u8 = 3;
/// The same where many distributions are kept.
const COARSE_DIGITS: u8 = 1;

/// Rows of the logarithmic scale: zero, then 1, 2, 5 in each of thirteen
/// decades, from 1 ns to more than 5000 s.
pub const ROWS: usize = 1 + 3 * 13;

/// Where each row begins, in nanoseconds. The last has no end.
pub const EDGES: [u64; ROWS] = edges();

const fn edges() -> [u64; ROWS] {
    let mut edges = [0; ROWS];
    let mut decade = 1;
    let mut row = 1;
    while row < ROWS {
        edges[row] = decade;
        edges[row + 1] = 2 * decade;
        edges[row + 2] = 5 * decade;
        decade *= 10;
        row += 3;
    }
    edges
}

/// Times in nanoseconds: percentiles to three digits, least, greatest, mean and
/// the counts of a logarithmic scale exactly.
///
/// Takes 264 KiB, or 5 KiB if it is coarse, whatever is recorded, because the
/// histogram never grows.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
    /// Kept beside the histogram, whose buckets do not end at round numbers: a
    /// delay of exactly 50 ms belongs into the row that begins at 50 ms.
    rows: [u64; ROWS],
    sum: u128,
    min: u64,
    max: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self::with_digits(DIGITS)
    }
}

impl Times {
    /// With percentiles to one digit only.
    pub fn coarse() -> Self {
        Self::with_digits(COARSE_DIGITS)
    }

    fn with_digits(digits: u8) -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, LONGEST_NS, digits)
                .expect("constant bounds are valid"),
            rows: [0; ROWS],
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    /// Adds one time.
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
        self.rows[Self::row_of(ns)] += 1;
        self.sum += u128::from(ns);
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// The time that this share (0 to 1) of all did not pass.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        self.some(
            self.histogram
                .value_at_quantile(share)
                .clamp(self.min.min(self.max), self.max),
        )
    }

    /// The least.
    pub fn min(&self) -> Option<u64> {
        self.some(self.min)
    }

    /// The greatest.
    pub fn max(&self) -> Option<u64> {
        self.some(self.max)
    }

    /// The mean.
    pub fn mean(&self) -> Option<u64> {
        let count = u128::from(self.count()).max(1);
        self.some((self.sum / count) as u64)
    }

    fn some(&self, ns: u64) -> Option<u64> {
        (!self.is_empty()).then_some(ns)
    }

    /// The row of the logarithmic scale that a time is in.
    pub fn row_of(ns: u64) -> usize {
        EDGES.partition_point(|edge| *edge <= ns) - 1
    }

    /// Every row of the logarithmic scale as (from, to, count); it holds times
    /// from `from` and below `to`. The last has no end.
    pub fn rows(&self) -> impl Iterator<Item = (u64, Option<u64>, u64)> {
        self.rows
            .iter()
            .enumerate()
            .map(|(row, count)| (EDGES[row], EDGES.get(row + 1).copied(), *count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_recorded_has_no_times() {
        let times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        assert_eq!((times.min(), times.max(), times.mean()), (None, None, None));
        assert!(times.rows().all(|(_, _, count)| count == 0));
    }

    #[test]
    fn the_documented_size_is_right() {
        let bytes = |times: Times| times.histogram.distinct_values() * size_of::<u64>();
        assert_eq!(bytes(Times::default()), 264 * 1024);
        assert_eq!(bytes(Times::coarse()).div_ceil(1024), 5);
    }

    #[test]
    fn a_constant_is_named_exactly() {
        let mut times = Times::default();
        for _ in 0..100 {
            times.record(50_000_000);
        }
        assert_eq!(times.quantile(0.5), Some(50_000_000));
        assert_eq!(times.quantile(0.99), Some(50_000_000));
        let row = times.rows().find(|(.., count)| *count > 0);
        assert_eq!(row, Some((50_000_000, Some(100_000_000), 100)));
    }

    #[test]
    fn rows_go_up_without_gaps() {
        let times = Times::default();
        let rows: Vec<_> = times.rows().collect();
        assert_eq!(rows[0].0, 0);
        assert_eq!(rows.last().unwrap().1, None);
        assert!(rows.last().unwrap().0 > LONGEST_NS);
        for pair in rows.windows(2) {
            assert_eq!(pair[0].1, Some(pair[1].0));
            assert!(pair[0].0 < pair[1].0);
        }
    }

    #[test]
    fn percentiles_of_a_uniform_law() {
        let mut times = Times::default();
        for ns in 1..=100_000_u64 {
            times.record(ns * 1_000);
        }
        for (share, want) in [(0.5, 5e7), (0.9, 9e7), (0.99, 9.9e7)] {
            let got = times.quantile(share).unwrap() as f64;
            assert!((got / want - 1.0).abs() < 0.002, "{share}: {got}");
        }
        assert_eq!(times.mean(), Some(50_000_500));
    }

    proptest! {
        #[test]
        fn any_times_are_ordered_and_counted(all in prop::collection::vec(any::<u64>(), 1..300)) {
            let mut times = Times::default();
            for ns in &all {
                times.record(*ns);
            }
            prop_assert_eq!(times.count(), all.len() as u64);
            prop_assert_eq!(times.rows().map(|(.., count)| count).sum::<u64>(), all.len() as u64);
            prop_assert_eq!(times.min(), all.iter().min().copied());
            prop_assert_eq!(times.max(), all.iter().max().copied());
            let named = [
                times.min(),
                times.quantile(0.5),
                times.quantile(0.9),
                times.quantile(0.99),
                times.max(),
            ];
            prop_assert!(named.is_sorted(), "{:?}", named);
        }

        /// Three digits: within 0.1 % of the value that sorting would find.
        #[test]
        fn percentiles_agree_with_sorting(mut all in prop::collection::vec(1..LONGEST_NS, 1..300)) {
            let mut times = Times::default();
            for ns in &all {
                times.record(*ns);
            }
            all.sort_unstable();
            for share in [0.5, 0.9, 0.99] {
                let rank = (share * all.len() as f64).ceil() as usize;
                let want = all[rank.clamp(1, all.len()) - 1] as f64;
                let got = times.quantile(share).unwrap() as f64;
                prop_assert!((got / want - 1.0).abs() <= 0.001, "{} {} {}", share, got, want);
            }
        }
    }
}
