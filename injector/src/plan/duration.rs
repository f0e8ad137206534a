//! Durations as people read and write them.

use std::time::Duration;

use super::malformed::Malformed;

/// What [`parse`] accepts.
pub const GRAMMAR: &str = "a number with a unit, as 10ns, 100us, 50ms, 1.5s, 2m or 1h, or just 0";

const NS_PER_MINUTE: u64 = 60_000_000_000;
const NS_PER_HOUR: u64 = 60 * NS_PER_MINUTE;

/// Units and their length in nanoseconds. Unicode has two signs that look like
/// the mu of a microsecond (U+00B5 and U+03BC), and keyboards produce both.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", NS_PER_MINUTE),
    ("h", NS_PER_HOUR),
];

/// Digits after the point that are looked at. Enough for a nanosecond of the
/// longest unit, and the product with that unit stays within 128 bits.
const FRACTION_DIGITS: usize = 18;

/// Reads a duration, see [`GRAMMAR`]. The result is a whole number of
/// nanoseconds that fits 64 bits (584 years).
pub fn parse(text: &str) -> Result<Duration, Malformed> {
    read(text.trim()).map_err(|why| Malformed::new("a duration", text, why, GRAMMAR))
}

fn read(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    if number.is_empty() {
        return Err("it does not begin with a digit".into());
    }
    if unit.is_empty() {
        return if number == "0" {
            Ok(Duration::ZERO)
        } else {
            Err(format!("it has no unit (did you mean {number}ms?)"))
        };
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("{unit:?} is no unit"));
    };
    scaled(number, *scale).map(Duration::from_nanos)
}

/// Number and unit of a text, either of which may be missing.
pub(super) fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    text.split_at(end.unwrap_or(text.len()))
}

/// A decimal number of units in nanoseconds, rounded to the nearest. In whole
/// numbers throughout, so that what was written is what is used.
fn scaled(number: &str, scale: u64) -> Result<u64, String> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err("there is no digit after the point".into()),
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(format!("{number:?} is no number"));
    }
    let too_long = || "it is longer than 584 years".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_long())?;
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let divisor = 10_u128.pow(fraction.len() as u32);
    // Empty or digits only, and never too many of them.
    let part: u128 = fraction.parse().unwrap_or(0);
    let part_ns = (part * u128::from(scale) + divisor / 2) / divisor;
    let ns = u128::from(whole) * u128::from(scale) + part_ns;
    if ns == 0 && part > 0 {
        return Err("it is shorter than 1ns".into());
    }
    u64::try_from(ns).map_err(|_| too_long())
}

/// The text that [`parse`] reads back as the same duration, to the nanosecond:
/// `1.5s`, `2m`, `62.5us`.
pub fn exact(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let whole = |scale: u64| ns.is_multiple_of(u128::from(scale));
    match ns {
        0 => "0".into(),
        _ if whole(NS_PER_HOUR) => format!("{}h", ns / u128::from(NS_PER_HOUR)),
        _ if whole(NS_PER_MINUTE) => format!("{}m", ns / u128::from(NS_PER_MINUTE)),
        1_000_000_000.. => decimal(ns, 9, "s"),
        1_000_000.. => decimal(ns, 6, "ms"),
        1_000.. => decimal(ns, 3, "us"),
        _ => format!("{ns}ns"),
    }
}

/// The text for a measured duration: three significant digits, and whole
/// seconds from 100 s on.
pub fn compact(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let step = match ns.checked_ilog10().unwrap_or(0) {
        0..=2 => 1,
        digits @ 3..=10 => 10_u128.pow(digits - 2),
        _ => 1_000_000_000,
    };
    let rounded = (ns + step / 2) / step * step;
    exact(Duration::from_nanos_u128(rounded))
}

/// `ns` with the point moved left by `digits`, without trailing zeros.
fn decimal(ns: u128, digits: usize, unit: &str) -> String {
    let scale = 10_u128.pow(digits as u32);
    let fraction = format!("{:0digits$}", ns % scale);
    match fraction.trim_end_matches('0') {
        "" => format!("{}{unit}", ns / scale),
        fraction => format!("{}.{fraction}{unit}", ns / scale),
    }
}

/// Nanoseconds as the kernel side counts them.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ns(text: &str) -> u64 {
        nanos(parse(text).unwrap())
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_unit() {
        assert_eq!(ns("10ns"), 10);
        assert_eq!(ns("100us"), 100_000);
        assert_eq!(ns("100\u{b5}s"), 100_000);
        assert_eq!(ns("100\u{3bc}s"), 100_000);
        assert_eq!(ns("50ms"), 50_000_000);
        assert_eq!(ns("1.5s"), 1_500_000_000);
        assert_eq!(ns("2m"), 120_000_000_000);
        assert_eq!(ns("1h"), 3_600_000_000_000);
        assert_eq!(ns("0"), 0);
        assert_eq!(ns("0s"), 0);
        assert_eq!(ns(" 0.25h "), 900_000_000_000);
    }

    #[test]
    fn decimals_are_not_floating_point() {
        assert_eq!(ns("0.1s"), 100_000_000);
        assert_eq!(ns("1.000000001s"), 1_000_000_001);
        assert_eq!(ns("0.33333333333333333333333333333333s"), 333_333_333);
        assert_eq!(ns("1.9999999999s"), 2_000_000_000);
        assert_eq!(ns("18446744073709551615ns"), u64::MAX);
    }

    #[test]
    fn refusals_say_why_and_what_else() {
        assert_eq!(
            error("50"),
            "\"50\" is not a duration: it has no unit (did you mean 50ms?); accepted: a number \
             with a unit, as 10ns, 100us, 50ms, 1.5s, 2m or 1h, or just 0"
        );
        for (text, why) in [
            ("", "does not begin with a digit"),
            ("ms", "does not begin with a digit"),
            ("-1s", "does not begin with a digit"),
            (".5s", "is no number"),
            ("1.2.3s", "is no number"),
            ("1.s", "no digit after the point"),
            ("1.5", "did you mean 1.5ms?"),
            ("1 s", "\" s\" is no unit"),
            ("1S", "\"S\" is no unit"),
            ("3d", "\"d\" is no unit"),
            ("1e3s", "\"e3s\" is no unit"),
            ("0.1ns", "shorter than 1ns"),
            ("18446744073709551616ns", "longer than 584 years"),
            ("6000000h", "longer than 584 years"),
            ("99999999999999999999999h", "longer than 584 years"),
        ] {
            assert!(error(text).contains(why), "{text}: {}", error(text));
        }
    }

    #[test]
    fn compact_keeps_three_digits() {
        for (from, to) in [
            (0, "0"),
            (7, "7ns"),
            (999, "999ns"),
            (62_512, "62.5us"),
            (999_600, "1ms"),
            (800_000_000, "800ms"),
            (1_234_567_891, "1.23s"),
            (1_200_000_000, "1.2s"),
            (75_449_000_000, "75.4s"),
            (99_960_000_000, "100s"),
            (119_600_000_000, "2m"),
            (4_523_400_000_000, "4523s"),
            (3_600_000_000_123, "1h"),
        ] {
            assert_eq!(compact(Duration::from_nanos(from)), to);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn almost_durations_are_read_or_refused(text in "[0-9.]{0,24}(ns|us|ms|s|m|h|x)?") {
            let _ = parse(&text);
        }

        #[test]
        fn exact_reads_back(ns in any::<u64>(), shift in 0..64_u32) {
            let duration = Duration::from_nanos(ns >> shift);
            prop_assert_eq!(parse(&exact(duration)).unwrap(), duration);
        }

        /// Half a unit of the third digit: 0.5 % of the smallest such number.
        #[test]
        fn compact_is_short_and_close(ns in 1..3_600_000_000_000_u64, shift in 0..42_u32) {
            let ns = (ns >> shift).max(1);
            let text = compact(Duration::from_nanos(ns));
            prop_assert!(text.len() <= 6, "{}", text);
            let got = nanos(parse(&text).unwrap()) as f64;
            prop_assert!((got / ns as f64 - 1.0).abs() <= 0.005, "{}: {}", ns, text);
        }
    }
}
