//! Numbers as people read them.

use std::fmt::{self, Display, Formatter};

/// A time in nanoseconds: `62.5us`, `800ms`, `1.2s`, `1m30s`, `2h05m`; three
/// digits below a minute.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub u64);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [
            (1, "ns"),
            (1_000, "us"),
            (1_000_000, "ms"),
            (1_000_000_000, "s"),
        ];
        let seconds = self.0 / 1_000_000_000;
        if seconds >= 3_600 {
            return write!(f, "{}h{:02}m", seconds / 3_600, seconds / 60 % 60);
        }
        if seconds >= 60 {
            return write!(f, "{}m{:02}s", seconds / 60, seconds % 60);
        }
        for (size, name) in UNITS {
            // Rounded, 999.6us is a millisecond.
            if let Some(digits) = Digits::three(self.0, size).filter(|digits| digits.below_1000()) {
                return write!(f, "{digits}{name}");
            }
        }
        unreachable!("less than 60 seconds are less than 1000 seconds")
    }
}

/// A size in bytes, in powers of 1024: `64B`, `1.5K`, `128K`, `2.3M`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
        if self.0 < 1_024 {
            return write!(f, "{}B", self.0);
        }
        let mut size = 1_024_u128;
        for (index, name) in UNITS.iter().enumerate() {
            let tenths = (u128::from(self.0) * 10 + size / 2) / size;
            let last = index + 1 == UNITS.len();
            if tenths < 100 {
                let digits = Digits {
                    value: tenths as u64,
                    decimals: 1,
                };
                return write!(f, "{digits}{name}");
            }
            let whole = (u128::from(self.0) + size / 2) / size;
            if whole < 1_024 || last {
                return write!(f, "{whole}{name}");
            }
            size *= 1_024;
        }
        Ok(())
    }
}

/// `part` of `whole` in percent, to a tenth; nothing of nothing is no share.
/// `0%` and `100%` are exact.
pub fn percent(part: u64, whole: u64) -> Option<String> {
    if whole == 0 {
        return None;
    }
    let (part, whole) = (u128::from(part), u128::from(whole));
    let thousandths = (part * 1_000 + whole / 2) / whole;
    Some(match thousandths {
        _ if part == 0 => "0%".to_owned(),
        _ if part == whole => "100%".to_owned(),
        0 => "<0.1%".to_owned(),
        1_000.. if part < whole => ">99.9%".to_owned(),
        _ => format!("{}.{}%", thousandths / 10, thousandths % 10),
    })
}

/// A number with decimals, written without zeros at its end.
#[derive(Clone, Copy)]
struct Digits {
    value: u64,
    decimals: u32,
}

impl Digits {
    /// `value / size`, rounded to three digits; `None` when the result has more
    /// than three before the point.
    fn three(value: u64, size: u64) -> Option<Self> {
        let decimals = match value / size {
            0..10 => 2,
            10..100 => 1,
            100..1_000 => 0,
            _ => return None,
        };
        let scaled = u128::from(value) * 10_u128.pow(decimals) + u128::from(size / 2);
        Some(Self {
            value: (scaled / u128::from(size)) as u64,
            decimals,
        })
    }

    fn below_1000(self) -> bool {
        self.value < 1_000 * 10_u64.pow(self.decimals)
    }
}

impl Display for Digits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut value = self.value;
        let mut decimals = self.decimals;
        while decimals > 0 && value.is_multiple_of(10) {
            value /= 10;
            decimals -= 1;
        }
        let scale = 10_u64.pow(decimals);
        write!(f, "{}", value / scale)?;
        if decimals > 0 {
            write!(f, ".{:0width$}", value % scale, width = decimals as usize)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_short() {
        for (ns, want) in [
            (0, "0ns"),
            (7, "7ns"),
            (999, "999ns"),
            (1_000, "1us"),
            (1_005, "1.01us"),
            (62_500, "62.5us"),
            (999_499, "999us"),
            (999_500, "1ms"),
            (800_000_000, "800ms"),
            (1_200_000_000, "1.2s"),
            (9_999_000_000, "10s"),
            (59_960_000_000, "60s"),
            (60_000_000_000, "1m00s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h00m"),
            (7_500_000_000_000, "2h05m"),
        ] {
            assert_eq!(Time(ns).to_string(), want);
        }
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, want) in [
            (0, "0B"),
            (1_023, "1023B"),
            (1_024, "1K"),
            (1_536, "1.5K"),
            (10_189, "10K"),
            (131_072, "128K"),
            (1_048_575, "1M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), want);
        }
    }

    #[test]
    fn shares_are_exact_at_the_ends() {
        for (part, whole, want) in [
            (0, 10, "0%"),
            (10, 10, "100%"),
            (1, 1_000_000, "<0.1%"),
            (999_999, 1_000_000, ">99.9%"),
            (3, 20, "15.0%"),
            (3, 2, "150.0%"),
        ] {
            assert_eq!(percent(part, whole).as_deref(), Some(want));
        }
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(1, 0), None);
    }

    proptest! {
        #[test]
        fn a_time_is_within_half_a_percent_of_itself(ns in 0..60_000_000_000_u64) {
            let text = Time(ns).to_string();
            prop_assert!(text.len() <= 6, "{}", text);
            let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
            let size = match &text[split..] {
                "ns" => 1.0,
                "us" => 1e3,
                "ms" => 1e6,
                _ => 1e9,
            };
            let shown = text[..split].parse::<f64>().unwrap() * size;
            prop_assert!((shown - ns as f64).abs() <= ns as f64 * 0.005);
        }

        #[test]
        fn any_number_is_short(number in any::<u64>(), other in any::<u64>()) {
            prop_assert!(Time(number).to_string().len() <= 11);
            prop_assert!(Bytes(number).to_string().len() <= 5);
            prop_assert!(percent(number.min(other), number.max(other)).is_none_or(|t| t.len() <= 6));
        }
    }
}
