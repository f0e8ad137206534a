//! How long a chosen send waits, as a law that each delay is drawn from.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::{duration, malformed::Malformed};

/// What [`Delay::from_str`] accepts.
pub const GRAMMAR: &str = "50ms | 0..1200ms (uniform) | normal(80ms,20ms) (mean, deviation) | \
    exp(30ms) (mean) | pareto(10ms,1.5) (scale, shape) | histogram:FILE (lines of: DURATION WEIGHT)";

/// The law of a delay. Whatever it is, a delay is never below zero nor above
/// the rule's `max_delay`: a draw outside counts as the nearer of the two.
#[derive(Clone, Debug, PartialEq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Each value between the two alike.
    Uniform {
        /// The least.
        from: Duration,
        /// The greatest, not below `from`.
        to: Duration,
    },
    /// Normal distribution. A draw below zero is no delay.
    Normal {
        /// Centre.
        mean: Duration,
        /// Standard deviation, above zero.
        deviation: Duration,
    },
    /// Exponential distribution: the gaps of a process without memory.
    Exponential {
        /// Mean, above zero.
        mean: Duration,
    },
    /// Pareto distribution: few delays, but very long ones.
    Pareto {
        /// The least delay, above zero.
        scale: Duration,
        /// Tail index, finite and above zero; at 1 and below the mean is
        /// infinite and only `max_delay` bounds it.
        shape: f64,
    },
    /// The distribution in a file, see [`super::Histogram`].
    Histogram {
        /// The file.
        path: PathBuf,
    },
}

impl Delay {
    /// The longest delay that the law itself can ask for, where that is known
    /// without reading a file and is not endless.
    pub fn longest(&self) -> Option<Duration> {
        match self {
            Self::Fixed(delay) => Some(*delay),
            Self::Uniform { to, .. } => Some(*to),
            _ => None,
        }
    }
}

impl FromStr for Delay {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        read(text.trim()).map_err(|why| Malformed::new("a delay", text, why, GRAMMAR))
    }
}

fn read(text: &str) -> Result<Delay, String> {
    if let Some(path) = text.strip_prefix("histogram:") {
        if path.is_empty() {
            return Err("the file is missing".into());
        }
        let path = Path::new(path).to_owned();
        return Ok(Delay::Histogram { path });
    }
    if let Some((name, rest)) = text.split_once('(') {
        let inner = rest.strip_suffix(')').ok_or("the closing ) is missing")?;
        return law(name.trim(), inner);
    }
    if let Some((from, to)) = text.split_once("..") {
        return uniform(from.trim(), to.trim());
    }
    time(text).map(Delay::Fixed)
}

fn law(name: &str, inner: &str) -> Result<Delay, String> {
    let arguments: Vec<&str> = inner.split(',').map(str::trim).collect();
    match (name, arguments.as_slice()) {
        ("normal", [mean, deviation]) => Ok(Delay::Normal {
            mean: time(mean)?,
            deviation: above_zero("the deviation", deviation)?,
        }),
        ("exp", [mean]) => Ok(Delay::Exponential {
            mean: above_zero("the mean", mean)?,
        }),
        ("pareto", [scale, shape]) => Ok(Delay::Pareto {
            scale: above_zero("the scale", scale)?,
            shape: tail_index(shape)?,
        }),
        ("normal" | "pareto", _) => Err(format!("{name} takes two arguments")),
        ("exp", _) => Err("exp takes one argument".into()),
        _ => Err(format!("{name:?} is no distribution")),
    }
}

/// `0..1200ms`: a bare number on the left has the unit of the right side.
fn uniform(from: &str, to: &str) -> Result<Delay, String> {
    let from = match duration::split_unit(from) {
        (number, "") if !number.is_empty() => {
            time(&format!("{number}{}", duration::split_unit(to).1))
        }
        _ => time(from),
    };
    let (from, to) = (from?, time(to)?);
    if from > to {
        return Err("the range ends before it begins".into());
    }
    Ok(Delay::Uniform { from, to })
}

fn time(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.reason())
}

fn above_zero(name: &str, text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err(format!("{name} must be above 0")),
        duration => Ok(duration),
    }
}

fn tail_index(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(shape) if shape.is_finite() && shape > 0.0 => Ok(shape),
        _ => Err(format!("the shape {text:?} is no number above 0")),
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use duration::exact;

        match self {
            Self::Fixed(delay) => f.write_str(&exact(*delay)),
            Self::Uniform { from, to } => write!(f, "{}..{}", exact(*from), exact(*to)),
            Self::Normal { mean, deviation } => {
                write!(f, "normal({},{})", exact(*mean), exact(*deviation))
            }
            Self::Exponential { mean } => write!(f, "exp({})", exact(*mean)),
            Self::Pareto { scale, shape } => write!(f, "pareto({},{shape})", exact(*scale)),
            Self::Histogram { path } => write!(f, "histogram:{}", path.display()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn read(text: &str) -> Delay {
        text.parse().unwrap()
    }

    #[test]
    fn every_law() {
        assert_eq!(read("50ms"), Delay::Fixed(ms(50)));
        assert_eq!(read("0"), Delay::Fixed(ms(0)));
        let uniform = |from, to| Delay::Uniform { from, to };
        assert_eq!(read("0..1200ms"), uniform(ms(0), ms(1200)));
        assert_eq!(read("5..10ms"), uniform(ms(5), ms(10)));
        assert_eq!(read("0.5..1.5s"), uniform(ms(500), ms(1500)));
        assert_eq!(read("0ms..1.2s"), uniform(ms(0), ms(1200)));
        assert_eq!(
            read("normal(80ms, 20ms)"),
            Delay::Normal {
                mean: ms(80),
                deviation: ms(20)
            }
        );
        assert_eq!(read("exp(30ms)"), Delay::Exponential { mean: ms(30) });
        assert_eq!(
            read("pareto(10ms,1.5)"),
            Delay::Pareto {
                scale: ms(10),
                shape: 1.5
            }
        );
        assert_eq!(
            read("histogram:a (b)..c,d"),
            Delay::Histogram {
                path: "a (b)..c,d".into()
            }
        );
    }

    #[test]
    fn refusals_say_why_and_show_the_whole_grammar() {
        for (text, why) in [
            ("", "does not begin with a digit"),
            ("50", "did you mean 50ms?"),
            ("0..1200", "\"1200\" is not a duration: it has no unit"),
            ("..5ms", "\"\" is not a duration"),
            ("5ms..", "\"\" is not a duration"),
            ("10ms..5ms", "ends before it begins"),
            ("1ms..2ms..3ms", "is no unit"),
            ("normal(80ms)", "normal takes two arguments"),
            ("normal(80ms,0)", "the deviation must be above 0"),
            ("normal(80ms,20ms", "closing ) is missing"),
            ("exp()", "does not begin with a digit"),
            ("exp(0)", "the mean must be above 0"),
            ("exp(1ms,2ms)", "exp takes one argument"),
            ("pareto(0,1)", "the scale must be above 0"),
            ("pareto(1ms,0)", "the shape \"0\" is no number above 0"),
            ("pareto(1ms,inf)", "the shape \"inf\""),
            ("pareto(1ms,NaN)", "the shape \"NaN\""),
            ("gauss(1ms,2ms)", "\"gauss\" is no distribution"),
            ("histogram:", "the file is missing"),
        ] {
            let error = text.parse::<Delay>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with(GRAMMAR), "{error}");
        }
    }

    #[test]
    fn shown_as_a_person_would_write_it() {
        for text in [
            "0..1.2s",
            "normal(80ms,20ms)",
            "pareto(10ms,1.5)",
            "histogram:x.txt",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    /// Any law that needs no file, with durations of up to a day.
    pub fn laws() -> impl Strategy<Value = Delay> {
        let time = || (1..86_400_000_000_000_u64, 0..46_u32).prop_map(|(ns, by)| (ns >> by).max(1));
        let time = move || time().prop_map(Duration::from_nanos);
        prop_oneof![
            time().prop_map(Delay::Fixed),
            (time(), time()).prop_map(|(a, b)| Delay::Uniform {
                from: a.min(b),
                to: a.max(b),
            }),
            (time(), time()).prop_map(|(mean, deviation)| Delay::Normal { mean, deviation }),
            time().prop_map(|mean| Delay::Exponential { mean }),
            (time(), 1e-3..1e3).prop_map(|(scale, shape)| Delay::Pareto { scale, shape }),
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Delay>();
        }

        #[test]
        fn almost_delays_are_read_or_refused(
            text in "(normal|exp|pareto|histogram:|x)?\\(?[0-9.]{0,9}(ms|s)?(,|\\.\\.)?[0-9.]{0,9}(ms|s)?\\)?"
        ) {
            let _ = text.parse::<Delay>();
        }

        #[test]
        fn shown_reads_back(delay in laws()) {
            prop_assert_eq!(delay.to_string().parse::<Delay>().unwrap(), delay);
        }
    }
}
