//! Bounds that a correct sampler passes 9,999 times of 10,000.

/// Standard deviations on either side that hold 99.99 % of a normal law.
const SIGMAS: f64 = 3.891;
/// The same for Kolmogorov and Smirnov's statistic times √n.
const KOLMOGOROV: f64 = 2.225;

/// Whether `hits` of `trials` fit a probability.
pub fn fits_binomial(hits: usize, trials: usize, probability: f64) -> bool {
    let trials = trials as f64;
    let deviation = (trials * probability * (1.0 - probability)).sqrt();
    // The half corrects for whole numbers.
    (hits as f64 - trials * probability).abs() <= SIGMAS * deviation + 0.5
}

/// Whether values fit the uniform law from 0 to `end`.
pub fn fits_uniform(values: &[u64], end: u64) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let count = sorted.len() as f64;
    let distance = sorted
        .iter()
        .enumerate()
        .map(|(rank, &value)| {
            let expected = value as f64 / end as f64;
            let below = rank as f64 / count;
            (expected - below)
                .abs()
                .max((expected - below - 1.0 / count).abs())
        })
        .fold(0.0, f64::max);
    distance * count.sqrt() <= KOLMOGOROV
}
