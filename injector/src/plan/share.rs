//! How much of a CPU something may take.

use std::{fmt, str::FromStr};

use super::malformed::Malformed;

/// What [`CpuShare::from_str`] accepts.
pub const GRAMMAR: &str = "a percentage of one CPU (3%, 0.5%), or none";

/// A ceiling in percent of one CPU. None, and 100 % or more, is no ceiling, as for
/// the kernel's own `kernel.perf_cpu_time_max_percent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuShare(Option<f64>);

impl CpuShare {
    /// As a number of CPUs, above 0 and below 1; none for no ceiling.
    pub fn cpus(self) -> Option<f64> {
        self.0
    }
}

impl FromStr for CpuShare {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        read(text.trim()).map_err(|why| Malformed::new("a share of a CPU", text, why, GRAMMAR))
    }
}

fn read(text: &str) -> Result<CpuShare, String> {
    if text == "none" {
        return Ok(CpuShare(None));
    }
    let Some(number) = text.strip_suffix('%') else {
        return Err(if text.parse::<f64>().is_ok() {
            format!("it has no unit (did you mean {text}%?)")
        } else {
            "it does not end in %".to_owned()
        });
    };
    let percent: f64 = number
        .trim_end()
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    if !percent.is_finite() || percent < 0.01 {
        return Err("it is less than 0.01%, with which nothing could be seen".to_owned());
    }
    Ok(CpuShare((percent < 100.).then_some(percent / 100.)))
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // Without the digits that a division by 100 adds.
            Some(cpus) => write!(f, "{}%", (cpus * 1e6).round() / 1e4),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        let cpus = |text: &str| text.parse::<CpuShare>().unwrap().cpus();
        assert_eq!(cpus("3%"), Some(0.03));
        assert_eq!(cpus("0.5 %"), Some(0.005));
        assert_eq!(cpus("none"), None);
        assert_eq!(cpus("100%"), None);
        assert_eq!(cpus("400%"), None);
        for text in ["3%", "0.07%", "none"] {
            assert_eq!(text.parse::<CpuShare>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn others_are_refused_with_a_hint() {
        for (text, hint) in [
            ("3", "did you mean 3%"),
            ("0%", "less than"),
            ("-1%", "less than"),
            ("nan%", "less than"),
            ("x%", "no number"),
            ("all", "does not end in %"),
        ] {
            let error = text.parse::<CpuShare>().unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
