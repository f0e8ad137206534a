//! Which calls of a thread a rule may choose.

use std::{fmt, str::FromStr};

use super::malformed::Malformed;

/// What [`When::from_str`] accepts.
pub const GRAMMAR: &str = "FIRST[..[LAST]][+[STEP]], counted from 1 per thread: \
    3 (only the third) | 3.. or 3+ (from the third on) | 3+2 (third, fifth, …) | 3..100 | 3..100+2";

/// The calls that can be chosen, counted from 1 among the matching sends of
/// each thread: the `when=first[..last][+[step]]` of strace(1), with an open
/// range `3..` besides `3+` and without the limit of 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    first: u64,
    last: u64,
    step: u64,
}

impl When {
    /// Every call.
    pub const ALWAYS: Self = Self {
        first: 1,
        last: u64::MAX,
        step: 1,
    };

    /// The first call, at least 1.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The last call, not before the first; `u64::MAX` when there is no end.
    pub fn last(self) -> u64 {
        self.last
    }

    /// Distance between calls, at least 1.
    pub fn step(self) -> u64 {
        self.step
    }
}

impl Default for When {
    fn default() -> Self {
        Self::ALWAYS
    }
}

impl FromStr for When {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        read(text.trim()).map_err(|why| Malformed::new("a choice of calls", text, why, GRAMMAR))
    }
}

fn read(text: &str) -> Result<When, String> {
    let (range, step) = match text.split_once('+') {
        Some((range, "")) => (range, Some(1)),
        Some((range, step)) => (range, Some(number("the step", step)?)),
        None => (text, None),
    };
    let (first, last) = match range.split_once("..") {
        Some((first, "")) => (number("the first call", first)?, u64::MAX),
        Some((first, last)) => (
            number("the first call", first)?,
            number("the last call", last)?,
        ),
        None => {
            let first = number("the first call", range)?;
            (first, if step.is_some() { u64::MAX } else { first })
        }
    };
    if first > last {
        return Err(format!("the last call {last} is before the first {first}"));
    }
    // One call has no distance, and must compare equal however it is written.
    let step = if first == last { 1 } else { step.unwrap_or(1) };
    Ok(When { first, last, step })
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    // u64::from_str alone would take a plus sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{name} {text:?} is no whole number"));
    }
    match text.parse() {
        Ok(0) => Err(format!("{name} is counted from 1")),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{name} is too large")),
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, step } = *self;
        write!(f, "{first}")?;
        if first != last && last != u64::MAX {
            write!(f, "..{last}")?;
        }
        match step {
            1 if last == u64::MAX && first != last => f.write_str("+"),
            1 => Ok(()),
            _ => write!(f, "+{step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_strace_reads_it() {
        for (text, first, last, step) in [
            ("3", 3, 3, 1),
            ("3..", 3, u64::MAX, 1),
            ("3+", 3, u64::MAX, 1),
            ("3+2", 3, u64::MAX, 2),
            ("3..+2", 3, u64::MAX, 2),
            ("3..100", 3, 100, 1),
            ("3..100+", 3, 100, 1),
            ("3..100+2", 3, 100, 2),
            ("7..7+3", 7, 7, 1),
        ] {
            assert_eq!(text.parse(), Ok(When { first, last, step }), "{text}");
        }
    }

    #[test]
    fn refusals_say_why() {
        for (text, why) in [
            ("", "the first call \"\" is no whole number"),
            ("0", "the first call is counted from 1"),
            ("..3", "the first call \"\" is no whole number"),
            ("+2", "the first call \"\" is no whole number"),
            ("3+0", "the step is counted from 1"),
            ("3++2", "the step \"+2\" is no whole number"),
            ("3..2", "the last call 2 is before the first 3"),
            ("3...5", "the last call \".5\" is no whole number"),
            ("-1", "the first call \"-1\" is no whole number"),
            ("18446744073709551616", "the first call is too large"),
        ] {
            let error = text.parse::<When>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with(GRAMMAR), "{error}");
        }
    }

    #[test]
    fn shown_in_its_shortest_form() {
        for text in ["3", "3+", "3+2", "3..100", "3..100+2"] {
            assert_eq!(text.parse::<When>().unwrap().to_string(), text);
        }
        assert_eq!("3..".parse::<When>().unwrap().to_string(), "3+");
        assert_eq!(When::default().to_string(), "1+");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", near in "[0-9.+]{0,12}") {
            let _ = text.parse::<When>();
            let _ = near.parse::<When>();
        }

        #[test]
        fn shown_reads_back(
            first in 1..=u64::MAX,
            more in any::<u64>(),
            step in 1..=u64::MAX,
            shift in 0..64_u32,
        ) {
            let first = (first >> shift).max(1);
            for text in [
                format!("{first}"),
                format!("{first}+{step}"),
                format!("{first}..{}+{step}", first.saturating_add(more >> shift)),
            ] {
                let when: When = text.parse().unwrap();
                prop_assert_eq!(when.to_string().parse::<When>().unwrap(), when);
            }
        }
    }
}
