//! Medians and what surrounds them.

/// The median of a handful of rounds, and where it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The second least of the rounds (the least of a few): of nine, the
    /// interval from it to `high` holds the median of all rounds that could be made with 96 %.
    pub low: f64,
    /// The second greatest, likewise.
    pub high: f64,
}

impl Spread {
    /// From this many values on, the least and the greatest are left out.
    pub const CUT_FROM: usize = 5;

    /// Of the values of the rounds, of which there is at least one.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let cut = usize::from(values.len() >= Self::CUT_FROM);
        Self {
            median: values[last / 2],
            low: values[cut],
            high: values[last - cut],
        }
    }
}

/// The mean of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error: so much it would differ, were all rounds made again.
    pub error: f64,
}

impl Mean {
    /// Of the values of the rounds, of which there are at least two.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self {
            mean,
            error: (squares / (count - 1.) / count).sqrt(),
        }
    }
}

/// Times of many calls, in nanoseconds; may be below zero when they are errors.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// Adds times.
    pub fn extend(&mut self, times: impl IntoIterator<Item = f64>) {
        self.0.extend(times);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this share (0 to 1) of all did not pass; nothing of nothing.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut times = self.0.clone();
        times.sort_by(f64::total_cmp);
        let rank = (times.len() as f64 * share).ceil() as usize;
        times.get(rank.max(1) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_leaves_the_extremes_out() {
        let spread = Spread::of([9., 1., 5., 2., 3., 8., 4., 7., 6.]);
        assert_eq!(
            spread,
            Spread {
                median: 5.,
                low: 2.,
                high: 8.
            }
        );
        let alone = Spread {
            median: 3.,
            low: 3.,
            high: 3.,
        };
        assert_eq!(Spread::of([3.]), alone);
    }

    #[test]
    fn the_mean_of_rounds_has_an_error() {
        let expected = Mean {
            mean: 2.,
            error: 1.,
        };
        assert_eq!(Mean::of(&[1., 3.]), expected);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        times.extend((1..=100).rev().map(f64::from));
        assert_eq!(times.quantile(0.5), Some(50.));
        assert_eq!(times.quantile(0.99), Some(99.));
        assert_eq!(times.quantile(1.), Some(100.));
        assert_eq!(times.len(), 100);
    }
}
