//! How often a rule chooses a send.

use std::{fmt, str::FromStr};

use super::malformed::Malformed;

/// What [`Probability::from_str`] accepts.
pub const GRAMMAR: &str = "0 to 1 (0.15) or 0% to 100% (15%)";

/// Always, in the units of [`Probability::fixed_point`].
const ONE: u64 = 1 << 32;

/// A chance, kept as the kernel side compares it: a count of 2⁻³² parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u64);

impl Probability {
    /// Every send that can be.
    pub const ALWAYS: Self = Self(ONE);

    /// The chance in 2³²: 0 never, 2³² always.
    pub fn fixed_point(self) -> u64 {
        self.0
    }
}

impl Default for Probability {
    fn default() -> Self {
        Self::ALWAYS
    }
}

impl FromStr for Probability {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        read(text.trim()).map_err(|why| Malformed::new("a probability", text, why, GRAMMAR))
    }
}

fn read(text: &str) -> Result<Probability, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let share: f64 = number
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    let share = share / scale;
    if !(0.0..=1.0).contains(&share) {
        let percent = (1.0..=100.0).contains(&share);
        return Err(if percent && scale.eq(&1.0) {
            format!("it is above 1 (did you mean {number}%?)")
        } else {
            "it is out of range".into()
        });
    }
    let parts = (share * ONE as f64).round() as u64;
    if parts == 0 && share > 0.0 {
        return Err("it is less than one in 2³², the smallest chance".into());
    }
    Ok(Probability(parts))
}

impl fmt::Display for Probability {
    /// In percent, with as few digits as read back to the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 as f64 / ONE as f64 * 100.0;
        // Eight digits tell neighbours apart: they are 2.3e-8 % away.
        let digits = (0..8).find(|digits| read(&format!("{percent:.digits$}%")) == Ok(*self));
        write!(f, "{percent:.*}%", digits.unwrap_or(8))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> u64 {
        text.parse::<Probability>().unwrap().fixed_point()
    }

    #[test]
    fn shares_and_percent() {
        assert_eq!(parts("15%"), 644_245_094);
        assert_eq!(parts("0.15"), 644_245_094);
        assert_eq!(parts("1"), 1 << 32);
        assert_eq!(parts("100 %"), 1 << 32);
        assert_eq!(parts("0"), 0);
        assert_eq!(parts("1e-3"), 4_294_967);
        assert_eq!(parts(".5"), 1 << 31);
    }

    #[test]
    fn refusals_say_why() {
        for (text, why) in [
            ("", "\"\" is no number"),
            ("%", "\"\" is no number"),
            ("often", "\"often\" is no number"),
            ("15", "did you mean 15%?"),
            ("1.5", "did you mean 1.5%?"),
            ("101", "out of range"),
            ("101%", "out of range"),
            ("-1%", "out of range"),
            ("NaN", "out of range"),
            ("inf%", "out of range"),
            ("1e-12", "less than one in 2³²"),
        ] {
            let error = text.parse::<Probability>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with(GRAMMAR), "{error}");
        }
    }

    #[test]
    fn shown_in_percent() {
        for text in ["0%", "15%", "0.1%", "7%", "99.99%", "100%", "0.0001%"] {
            assert_eq!(text.parse::<Probability>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", near in "[0-9.e-]{0,9}%?") {
            let _ = text.parse::<Probability>();
            let _ = near.parse::<Probability>();
        }

        #[test]
        fn shown_reads_back(parts in 0..=ONE, shift in 0..32_u32) {
            let probability = Probability(parts >> shift);
            prop_assert_eq!(probability.to_string().parse::<Probability>().unwrap(), probability);
        }
    }
}
