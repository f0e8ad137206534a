//! What a plan must not say, because it could not be carried out or would
//! silently do nothing.

use std::time::Duration;

use injector_ebpf::MAX_RULES;

use super::{Limits, Over, Plan, Rule, duration::exact, filter::FilterError};

/// Highest ceiling of one delay. The kernel side interpolates delays in 64
/// bits, which holds for gaps in a quantile table of less than 2⁴⁰ ns (18.3
/// minutes); see [`injector_ebpf::decide::sample`].
pub const MAX_DELAY: Duration = Duration::from_mins(15);

/// Longest spin. One `bpf_loop` ends after 2²³ rounds, about half a second.
pub const MAX_SPIN: Duration = Duration::from_millis(400);

/// A plan that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to do.
    #[error("the plan has no rule")]
    NoRule,
    /// The kernel side has a fixed number of slots.
    #[error("the plan has {0} rules, and {MAX_RULES} is the most")]
    TooManyRules(usize),
    /// The only rule, which needs no number.
    #[error(transparent)]
    OnlyRule(RuleError),
    /// One of several rules.
    #[error("rule {number}: {error}")]
    Rule {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        error: RuleError,
    },
    /// The limits.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// Over before it begins.
    #[error("a run of no duration does nothing; leave the duration out for a run until stopped")]
    NoDuration,
}

/// A rule that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Nothing is ever over a threshold that is not there.
    #[error("--on-timeout {0} needs a --threshold: without one no send is too slow")]
    NoThreshold(Over),
    /// Everything is.
    #[error("a --threshold of 0 would flag every send; use --all to see every send")]
    ZeroThreshold,
    /// Nothing could be delayed.
    #[error(
        "a --max-delay of 0 would take every delay away; use --shadow to decide without acting"
    )]
    ZeroMaxDelay,
    /// See [`MAX_DELAY`].
    #[error("a --max-delay of {} is too long: {} is the most", exact(*.0), exact(MAX_DELAY))]
    MaxDelay(Duration),
    /// The rule's own error comes first.
    #[error("--on-timeout {0} never happens: --error fails every chosen send already")]
    TwoErrors(Over),
    /// See [`Over::Error`].
    #[error(
        "--on-timeout {over} never happens: a send can only be made to fail before it starts, \
         when nothing but its asked delay is known, and no delay of this rule passes the \
         threshold of {}", exact(*.threshold)
    )]
    NeverOver {
        /// The action.
        over: Over,
        /// The threshold.
        threshold: Duration,
    },
}

/// Limits that are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Everything would be suppressed.
    #[error("a {0} of 0 would suppress everything; leave it out for no ceiling, or use --shadow")]
    Zero(&'static str),
    /// See [`MAX_SPIN`].
    #[error("a --max-spin of {} is too long: {} is the most", exact(*.0), exact(MAX_SPIN))]
    MaxSpin(Duration),
}

impl Plan {
    /// Refuses what could not be carried out or would silently do nothing. A
    /// rule without a fault is neither: it observes.
    pub fn validate(&self) -> Result<(), PlanError> {
        match self.rules.as_slice() {
            [] => return Err(PlanError::NoRule),
            rules if rules.len() > MAX_RULES as usize => {
                return Err(PlanError::TooManyRules(rules.len()));
            }
            [rule] => rule.validate().map_err(PlanError::OnlyRule)?,
            rules => {
                for (rule, number) in rules.iter().zip(1..) {
                    rule.validate()
                        .map_err(|error| PlanError::Rule { number, error })?;
                }
            }
        }
        self.limits.validate()?;
        if self.duration == Some(Duration::ZERO) {
            return Err(PlanError::NoDuration);
        }
        Ok(())
    }
}

impl Rule {
    fn validate(&self) -> Result<(), RuleError> {
        self.filter.validate()?;
        if self.max_delay.is_zero() {
            return Err(RuleError::ZeroMaxDelay);
        }
        if self.max_delay > MAX_DELAY {
            return Err(RuleError::MaxDelay(self.max_delay));
        }
        let over = self.over;
        match self.threshold {
            Some(Duration::ZERO) => return Err(RuleError::ZeroThreshold),
            None if over != Over::Flag => return Err(RuleError::NoThreshold(over)),
            Some(threshold) if matches!(over, Over::Error(_)) => {
                if self.fault.error.is_some() {
                    return Err(RuleError::TwoErrors(over));
                }
                if self.longest_delay() <= threshold {
                    return Err(RuleError::NeverOver { over, threshold });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// No delay of this rule is longer.
    fn longest_delay(&self) -> Duration {
        match &self.fault.delay {
            None => Duration::ZERO,
            Some(delay) => delay.longest().unwrap_or(Duration::MAX).min(self.max_delay),
        }
    }
}

impl Limits {
    fn validate(&self) -> Result<(), LimitsError> {
        if self.max_total_delay == Some(Duration::ZERO) {
            return Err(LimitsError::Zero("ceiling on all injected delay"));
        }
        if self.max_delay_per_second == Some(Duration::ZERO) {
            return Err(LimitsError::Zero("ceiling on injected delay per second"));
        }
        if self.max_acts_per_second == Some(0) {
            return Err(LimitsError::Zero("ceiling on acted sends per second"));
        }
        if self.max_spin > MAX_SPIN {
            return Err(LimitsError::MaxSpin(self.max_spin));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::Mode;
    use nix::errno::Errno;

    use super::*;
    use crate::plan::{
        Fault,
        tests::{limits, plan, rule},
    };

    fn refusal(plan: &Plan) -> String {
        plan.validate().unwrap_err().to_string()
    }

    fn rule_refusal(rule: Rule) -> String {
        refusal(&plan([rule]))
    }

    /// Fails sends with ETIMEDOUT from 800 ms of delay on.
    fn times_out(delay: Option<&str>) -> Rule {
        Rule {
            fault: Fault {
                delay: delay.map(|delay| delay.parse().unwrap()),
                error: None,
            },
            threshold: Some(Duration::from_millis(800)),
            over: Over::Error(Errno::ETIMEDOUT),
            ..rule()
        }
    }

    #[test]
    fn a_rule_that_only_observes_is_fine() {
        assert_eq!(plan([rule()]).validate(), Ok(()));
        let flags = Rule {
            threshold: Some(Duration::from_millis(1)),
            ..rule()
        };
        assert_eq!(plan([rule(), flags]).validate(), Ok(()));
    }

    #[test]
    fn the_number_of_rules() {
        assert_eq!(refusal(&plan([])), "the plan has no rule");
        let most = vec![rule(); MAX_RULES as usize];
        assert_eq!(plan(most.clone()).validate(), Ok(()));
        assert_eq!(
            refusal(&plan(most.into_iter().chain([rule()]))),
            "the plan has 17 rules, and 16 is the most"
        );
    }

    #[test]
    fn thresholds() {
        let kill = Rule {
            over: "kill".parse().unwrap(),
            ..rule()
        };
        let why = "--on-timeout kill needs a --threshold: without one no send is too slow";
        assert_eq!(rule_refusal(kill.clone()), why);
        assert_eq!(refusal(&plan([rule(), kill])), format!("rule 2: {why}"));
        let zero = Rule {
            threshold: Some(Duration::ZERO),
            ..rule()
        };
        assert!(rule_refusal(zero).contains("--threshold of 0"));
    }

    #[test]
    fn a_timeout_error_must_be_able_to_happen() {
        for delay in ["0..1200ms", "exp(1ms)", "1s"] {
            assert_eq!(plan([times_out(Some(delay))]).validate(), Ok(()), "{delay}");
        }
        for delay in [None, Some("800ms"), Some("0..500ms")] {
            let why = rule_refusal(times_out(delay));
            assert!(why.ends_with("passes the threshold of 800ms"), "{why}");
        }
        let low_ceiling = Rule {
            max_delay: Duration::from_millis(500),
            ..times_out(Some("1s"))
        };
        assert!(rule_refusal(low_ceiling).contains("never happens"));
        let mut twice = times_out(Some("1s"));
        twice.fault.error = Some(Errno::ECONNRESET);
        assert_eq!(
            rule_refusal(twice),
            "--on-timeout error:ETIMEDOUT never happens: --error fails every chosen send already"
        );
    }

    #[test]
    fn ceilings_of_a_delay() {
        let ceiling = |max_delay| Rule {
            max_delay,
            ..rule()
        };
        assert!(rule_refusal(ceiling(Duration::ZERO)).contains("--max-delay of 0"));
        assert_eq!(plan([ceiling(MAX_DELAY)]).validate(), Ok(()));
        assert_eq!(
            rule_refusal(ceiling(Duration::from_hours(1))),
            "a --max-delay of 1h is too long: 15m is the most"
        );
        // What the kernel side's interpolation relies on.
        assert!(MAX_DELAY.as_nanos() < 1 << 40);
    }

    #[test]
    fn filters_are_looked_at() {
        let mut unix = rule();
        unix.filter.protocols = "unix".parse().unwrap();
        unix.filter.port = Some(80.try_into().unwrap());
        assert!(rule_refusal(unix).contains("unix sockets"));
    }

    #[test]
    fn ceilings_of_a_run() {
        let why = |limits| {
            refusal(&Plan {
                limits,
                ..plan([rule()])
            })
        };
        let zero = Some(Duration::ZERO);
        assert!(
            why(Limits {
                max_total_delay: zero,
                ..limits()
            })
            .starts_with("a ceiling on all injected delay of 0 would suppress everything")
        );
        assert!(
            why(Limits {
                max_delay_per_second: zero,
                ..limits()
            })
            .contains("delay per second of 0")
        );
        assert!(
            why(Limits {
                max_acts_per_second: Some(0),
                ..limits()
            })
            .contains("sends per second of 0")
        );
        assert_eq!(
            why(Limits {
                max_spin: Duration::from_millis(401),
                ..limits()
            }),
            "a --max-spin of 401ms is too long: 400ms is the most"
        );
    }

    #[test]
    fn a_run_lasts() {
        let run = |duration| Plan {
            duration,
            mode: Mode::Shadow,
            ..plan([rule()])
        };
        assert_eq!(run(None).validate(), Ok(()));
        assert_eq!(run(Some(Duration::from_mins(1))).validate(), Ok(()));
        assert!(refusal(&run(Some(Duration::ZERO))).contains("no duration"));
    }
}
