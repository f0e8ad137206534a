//! What a run is to do: rules, limits, mode and seed, from the words of a
//! person to the rule table of the kernel side.
//!
//! Pure: nothing here opens a file, reads a clock or asks the kernel. Each
//! value has one file with its type, its grammar and its error.

mod bytes;
mod check;
pub mod compile;
mod delay;
mod describe;
pub mod duration;
mod filter;
mod histogram;
mod malformed;
pub mod names;
mod over;
mod peer;
mod probability;
mod protocols;
pub mod quantile;
mod share;
mod when;

use std::time::Duration;

use injector_ebpf::{Mode, Operation};
use nix::errno::Errno;

pub use bytes::Bytes;
pub use delay::Delay;
pub use filter::Filter;
pub use malformed::Malformed;
pub use over::Over;
pub use peer::Peer;
pub use probability::Probability;
pub use protocols::Protocols;
pub use share::CpuShare;
pub use when::When;

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is done to whom; targets name a rule by its index.
    pub rules: Vec<Rule>,
    /// Whether it is done, or only decided.
    pub mode: Mode,
    /// Ceilings on everything that is done.
    pub limits: Limits,
    /// When the run ends by itself; none for when it is stopped.
    pub duration: Option<Duration>,
    /// Of all decisions: the same calls get the same ones again.
    pub seed: u64,
}

/// One rule: which sends, how often, what happens to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is about: sends, or other calls on sockets.
    pub operations: Vec<Operation>,
    /// Sends that match count as calls.
    pub filter: Filter,
    /// Calls that can be chosen.
    pub when: When,
    /// Chance of those to be chosen.
    pub probability: Probability,
    /// What happens to a chosen send. A rule without a fault only observes.
    pub fault: Fault,
    /// A send that takes longer, or was asked to, is flagged.
    pub threshold: Option<Duration>,
    /// What else happens to a send that passes the threshold.
    pub over: Over,
    /// Ceiling of one delay, at most [`MAX_DELAY`].
    pub max_delay: Duration,
    /// Whether sends that may not block are left alone.
    pub blocking_only: bool,
}

/// What happens to a chosen send: it waits, then fails; either or both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// How long it waits.
    pub delay: Option<Delay>,
    /// What it fails with.
    pub error: Option<Errno>,
}

/// Ceilings in the kernel, for all rules and threads together. None is no
/// ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "each is named like its flag")]
pub struct Limits {
    /// On all injected delay.
    pub max_total_delay: Option<Duration>,
    /// On injected delay per second of wall time.
    pub max_delay_per_second: Option<Duration>,
    /// On acted sends per second.
    pub max_acts_per_second: Option<u64>,
    /// On what the spin engine may burn for one send, at most [`MAX_SPIN`].
    pub max_spin: Duration,
}

impl Plan {
    /// Whether any send may be changed by this run.
    pub fn acts(&self) -> bool {
        self.mode == Mode::Enforce && self.rules.iter().any(Rule::acts)
    }

    /// Whether some rule is about this.
    pub fn is_about(&self, operation: Operation) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.operations.contains(&operation))
    }

    /// Whether some rule can make a send fail, which takes a hook that can.
    pub fn needs_error_hook(&self) -> bool {
        self.rules.iter().any(Rule::fails_sends)
    }
}

impl Rule {
    /// Whether it does more than to observe, once the mode lets it.
    pub fn acts(&self) -> bool {
        self.fault != Fault::default() || self.over != Over::Flag
    }

    /// Whether it can make a send fail.
    pub fn fails_sends(&self) -> bool {
        self.fault.error.is_some() || matches!(self.over, Over::Error(_))
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    /// A rule that observes everything.
    pub fn rule() -> Rule {
        Rule {
            operations: vec![Operation::Send],
            filter: Filter::default(),
            when: When::default(),
            probability: Probability::default(),
            fault: Fault::default(),
            threshold: None,
            over: Over::Flag,
            max_delay: Duration::from_secs(2),
            blocking_only: false,
        }
    }

    /// Limits that limit nothing.
    pub fn limits() -> Limits {
        Limits {
            max_total_delay: None,
            max_delay_per_second: None,
            max_acts_per_second: None,
            max_spin: Duration::from_millis(10),
        }
    }

    /// An acting plan of these rules.
    pub fn plan(rules: impl IntoIterator<Item = Rule>) -> Plan {
        Plan {
            rules: rules.into_iter().collect(),
            mode: Mode::Enforce,
            limits: limits(),
            duration: None,
            seed: 42,
        }
    }

    #[test]
    fn a_plan_acts_when_a_rule_does_and_the_mode_lets_it() {
        let delays = Rule {
            fault: Fault {
                delay: Some("50ms".parse().unwrap()),
                error: None,
            },
            ..rule()
        };
        let signals = Rule {
            over: Over::Signal(Signal::SIGUSR2),
            ..rule()
        };
        assert!(!plan([rule()]).acts());
        assert!(plan([rule(), delays.clone()]).acts());
        assert!(plan([signals.clone()]).acts());
        let shadow = Plan {
            mode: Mode::Shadow,
            ..plan([delays, signals])
        };
        assert!(!shadow.acts());
        assert!(!shadow.needs_error_hook());
    }

    #[test]
    fn errors_need_a_hook_that_can_fail_a_send() {
        let always = Rule {
            fault: Fault {
                delay: None,
                error: Some(Errno::ECONNRESET),
            },
            ..rule()
        };
        let slow = Rule {
            over: Over::Error(Errno::ETIMEDOUT),
            ..rule()
        };
        assert!(plan([rule(), always]).needs_error_hook());
        assert!(plan([slow]).needs_error_hook());
        assert!(!plan([rule()]).needs_error_hook());
    }
}
