//! A distribution taken from measured values.

use std::str::FromStr;

use super::duration;

/// Values with their weights, as the text of a file lists them.
///
/// ```text
/// # what we saw on Tuesday
/// 1ms    500
/// 20ms   300   # a retry
/// 900ms  1.5
/// ```
///
/// One `DURATION WEIGHT` per line in any order; `#` begins a comment. Weights
/// are counts or shares, they need not sum to anything. Only the listed values
/// are drawn (a step quantile): nothing is made up between two of them, except
/// for the sliver that [`super::quantile`] states.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Ascending values in nanoseconds with the share of draws up to each.
    steps: Vec<(u64, f64)>,
}

/// A histogram that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// A line is not a value and a weight.
    #[error("line {line}: {why}; accepted: DURATION WEIGHT, as in: 20ms 300")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// No value can be drawn.
    #[error(
        "no line gives a value a weight above 0; accepted lines: DURATION WEIGHT, as in: 20ms 300"
    )]
    Empty,
    /// The sum is not a number.
    #[error("the weights are too large to be added up")]
    TooHeavy,
}

impl Histogram {
    /// The least listed value that at least this share (0 to 1) of the weight
    /// does not pass, in nanoseconds.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let index = self.steps.partition_point(|(_, up_to)| *up_to < share);
        self.steps[index.min(self.steps.len() - 1)].0
    }
}

impl FromStr for Histogram {
    type Err = HistogramError;

    fn from_str(text: &str) -> Result<Self, HistogramError> {
        let mut values = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let value = read(&words.collect::<Vec<_>>()).map_err(|why| HistogramError::Line {
                line: index + 1,
                why,
            })?;
            values.extend(value.filter(|(_, weight)| *weight > 0.0));
        }
        values.sort_by_key(|(ns, _)| *ns);
        let total: f64 = values.iter().map(|(_, weight)| weight).sum();
        if values.is_empty() {
            return Err(HistogramError::Empty);
        }
        if !total.is_finite() {
            return Err(HistogramError::TooHeavy);
        }
        let mut sum = 0.0;
        let steps = values.iter().map(|(ns, weight)| {
            sum += weight;
            (*ns, sum / total)
        });
        Ok(Self {
            steps: steps.collect(),
        })
    }
}

/// Value in nanoseconds and weight of one line, none for an empty one.
fn read(words: &[&str]) -> Result<Option<(u64, f64)>, String> {
    let (value, weight) = match words {
        [] => return Ok(None),
        [value, weight] => (value, weight),
        _ => return Err("it is not one value and one weight".into()),
    };
    let value = duration::parse(value).map_err(|error| error.reason())?;
    match weight.parse::<f64>() {
        Ok(weight) if weight.is_finite() && weight >= 0.0 => {
            Ok(Some((duration::nanos(value), weight)))
        }
        _ => Err(format!("the weight {weight:?} is no number from 0 up")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_in_any_order_with_comments() {
        let text = "# head\n\n  900ms 1 # rare\n1ms 2\n20ms\t1e0\n5ms 0\n1ms 4\n";
        let histogram: Histogram = text.parse().unwrap();
        for (share, ms) in [
            (0.0, 1),
            (0.75, 1),
            (0.76, 20),
            (0.875, 20),
            (0.88, 900),
            (1.0, 900),
        ] {
            assert_eq!(histogram.quantile(share), ms * 1_000_000, "{share}");
        }
    }

    #[test]
    fn refusals_name_the_line() {
        for (text, why) in [
            (
                "1ms 1\n20 3",
                "line 2: \"20\" is not a duration: it has no unit",
            ),
            ("1ms", "line 1: it is not one value"),
            ("1ms 1 1", "line 1: it is not one value"),
            ("1ms -1", "line 1: the weight \"-1\" is no number"),
            ("1ms NaN", "the weight \"NaN\""),
            ("1ms 1e999", "the weight \"1e999\""),
            ("# nothing\n", "no line gives a value"),
            ("1ms 0", "no line gives a value"),
            ("1ms 1e308\n2ms 1e308", "too large"),
        ] {
            let error = text.parse::<Histogram>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(?s).*") {
            let _ = text.parse::<Histogram>();
        }

        #[test]
        fn only_listed_values_come_out(
            lines in prop::collection::vec((0..1_000_000_u64, 0.001..1e6), 1..50),
            share in 0.0..=1.0,
        ) {
            let lines_of = lines.iter().map(|(us, weight)| format!("{us}us {weight}"));
            let text = lines_of.collect::<Vec<_>>().join("\n");
            let got = text.parse::<Histogram>().unwrap().quantile(share);
            prop_assert!(lines.iter().any(|(us, _)| us * 1_000 == got));
        }
    }
}
