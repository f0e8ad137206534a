//! A rule in words, as a person would give it.

use std::fmt;

use injector_ebpf::Operation;

use super::{Over, Probability, Rule, When, duration};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if let Some(delay) = &self.fault.delay {
            let ceiling = duration::compact(self.max_delay);
            words.push(format!("delay {delay} (at most {ceiling})"));
        }
        if let Some(error) = self.fault.error {
            words.push(format!("error {}", super::names::errno_name(error)));
        }
        if words.is_empty() {
            words.push("observe".to_owned());
        } else if self.probability != Probability::ALWAYS {
            words.push(format!("probability {}", self.probability));
        }
        if self.operations != [Operation::Send] {
            let names: Vec<_> = self
                .operations
                .iter()
                .map(|operation| operation.name())
                .collect();
            words.push(format!("on {}", names.join(",")));
        }
        if self.when != When::ALWAYS {
            words.push(format!("when {}", self.when));
        }
        if let Some(threshold) = self.threshold {
            words.push(format!("threshold {}", duration::compact(threshold)));
        }
        if self.over != Over::Flag {
            words.push(format!("on timeout {}", self.over));
        }
        if self.filter.protocols != super::Protocols::ALL {
            words.push(format!("proto {}", self.filter.protocols));
        }
        words.extend(self.filter.to.map(|peer| format!("to {peer}")));
        words.extend(self.filter.port.map(|port| format!("port {port}")));
        if self.filter.min_bytes.0 > 0 {
            words.push(format!("min-bytes {}", self.filter.min_bytes));
        }
        if self.blocking_only {
            words.push("blocking only".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::rule;

    #[test]
    fn a_rule_reads_like_its_flags() {
        let mut rule = rule();
        assert_eq!(rule.to_string(), "observe");
        rule.fault.delay = Some("0..1200ms".parse().unwrap());
        rule.probability = "15%".parse().unwrap();
        rule.threshold = Some(Duration::from_millis(800));
        rule.over = "signal:SIGUSR2".parse().unwrap();
        assert_eq!(
            rule.to_string(),
            "delay 0..1.2s (at most 2s), probability 15%, threshold 800ms, \
             on timeout signal:SIGUSR2"
        );
    }
}
