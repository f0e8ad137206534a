//! From a plan to the values that the kernel side reads.

use std::{net::IpAddr, num::NonZeroU16};

use injector_ebpf::{Control, NO_DELAY, OverAction, V4_MAPPED_PREFIX};
use ipnet::IpNet;

use super::{Limits, Over, Rule, duration::nanos};

/// Bits of an address before the IPv4 one that it maps.
const V4_MAPPED_BITS: u8 = V4_MAPPED_PREFIX.len() as u8 * 8;

/// One slot of the rule table. `table_slot` is where the caller puts the
/// [`super::quantile::table`] of the rule's delay; without a delay it is not
/// used.
pub fn compile(rule: &Rule, seed: u64, table_slot: u32) -> injector_ebpf::Rule {
    let (peer_network, peer_mask) = match rule.filter.to {
        Some(to) => mapped(to.network()),
        None => ([0; 16], [0; 16]),
    };
    let (over_action, over_argument) = match rule.over {
        Over::Flag => (OverAction::Flag, 0),
        Over::Signal(signal) => (OverAction::Signal, signal as u32),
        Over::Error(errno) => (OverAction::Error, errno as u32),
    };
    injector_ebpf::Rule {
        seed,
        peer_network,
        peer_mask,
        min_bytes: rule.filter.min_bytes.0,
        when_first: rule.when.first(),
        when_last: rule.when.last(),
        when_step: rule.when.step(),
        probability: rule.probability.fixed_point(),
        threshold_ns: rule.threshold.map_or(u64::MAX, nanos),
        max_delay_ns: nanos(rule.max_delay),
        delay_table: if rule.fault.delay.is_some() {
            table_slot
        } else {
            NO_DELAY
        },
        errno: rule.fault.error.map_or(0, |errno| errno as u32),
        over_action: over_action as u32,
        over_argument,
        protocols: rule.filter.effective_protocols().bits(),
        operations: rule
            .operations
            .iter()
            .fold(0, |bits, operation| bits | 1 << *operation as u32),
        reserved: 0,
        peer_port: rule
            .filter
            .effective_port()
            .map_or(0, |port| u32::from(NonZeroU16::get(port))),
        blocking_only: u32::from(rule.blocking_only),
        active: 1,
    }
}

/// Writes the ceilings into the run-time control; no ceiling is `u64::MAX`.
pub fn limits(limits: &Limits, control: &mut Control) {
    control.max_total_delay_ns = limits.max_total_delay.map_or(u64::MAX, nanos);
    control.max_delay_ns_per_second = limits.max_delay_per_second.map_or(u64::MAX, nanos);
    control.max_acts_per_second = limits.max_acts_per_second.unwrap_or(u64::MAX);
    control.max_spin_ns = nanos(limits.max_spin);
}

/// Address and mask of a network in the form that both families share.
fn mapped(network: IpNet) -> ([u8; 16], [u8; 16]) {
    let (address, bits) = match network.network() {
        IpAddr::V4(address) => (
            address.to_ipv6_mapped(),
            V4_MAPPED_BITS + network.prefix_len(),
        ),
        IpAddr::V6(address) => (address, network.prefix_len()),
    };
    let mask = u128::MAX
        .checked_shl(128 - u32::from(bits))
        .unwrap_or_default();
    (address.octets(), mask.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv6Addr, time::Duration};

    use injector_ebpf::decide::{self, Draw};
    use nix::{errno::Errno, sys::signal::Signal};
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{
        Bytes, Fault, Filter,
        check::MAX_SPIN,
        peer, quantile,
        tests::{limits as no_limits, rule},
    };

    /// What is compared with [`injector_ebpf::Rule::peer_network`].
    fn matches(rule: &injector_ebpf::Rule, address: IpAddr) -> bool {
        let octets = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        (0..16).all(|byte| octets[byte] & rule.peer_mask[byte] == rule.peer_network[byte])
    }

    fn to(peer: &str) -> injector_ebpf::Rule {
        let mut rule = rule();
        rule.filter.to = Some(peer.parse().unwrap());
        compile(&rule, 1, 0)
    }

    #[test]
    fn the_least_rule_matches_all_and_does_nothing() {
        assert_eq!(
            compile(&rule(), 7, 3),
            injector_ebpf::Rule {
                seed: 7,
                peer_network: [0; 16],
                peer_mask: [0; 16],
                min_bytes: 0,
                when_first: 1,
                when_last: u64::MAX,
                when_step: 1,
                probability: 1 << 32,
                threshold_ns: u64::MAX,
                max_delay_ns: 2_000_000_000,
                delay_table: NO_DELAY,
                errno: 0,
                over_action: OverAction::Flag as u32,
                over_argument: 0,
                protocols: 0b1111,
                operations: 1,
                reserved: 0,
                peer_port: 0,
                blocking_only: 0,
                active: 1,
            }
        );
    }

    #[test]
    fn every_field_is_filled() {
        let full = Rule {
            operations: vec![injector_ebpf::Operation::Send],
            filter: Filter {
                protocols: "tcp".parse().unwrap(),
                to: Some("10.1.0.0/16:443".parse().unwrap()),
                port: None,
                min_bytes: Bytes(1500),
            },
            when: "3..100+2".parse().unwrap(),
            probability: "50%".parse().unwrap(),
            fault: Fault {
                delay: Some("50ms".parse().unwrap()),
                error: Some(Errno::ECONNRESET),
            },
            threshold: Some(Duration::from_millis(800)),
            over: Over::Signal(Signal::SIGUSR2),
            max_delay: Duration::from_secs(1),
            blocking_only: true,
        };
        let mut peer_network = [0; 16];
        peer_network[10..].copy_from_slice(&[0xff, 0xff, 10, 1, 0, 0]);
        let mut peer_mask = [0xff; 16];
        peer_mask[14..].fill(0);
        assert_eq!(
            compile(&full, 1, 3),
            injector_ebpf::Rule {
                seed: 1,
                peer_network,
                peer_mask,
                min_bytes: 1500,
                when_first: 3,
                when_last: 100,
                when_step: 2,
                probability: 1 << 31,
                threshold_ns: 800_000_000,
                max_delay_ns: 1_000_000_000,
                delay_table: 3,
                errno: 104,
                over_action: OverAction::Signal as u32,
                over_argument: 12,
                protocols: 1,
                operations: 1,
                reserved: 0,
                peer_port: 443,
                blocking_only: 1,
                active: 1,
            }
        );
        let times_out = Rule {
            over: Over::Error(Errno::ETIMEDOUT),
            ..full
        };
        let times_out = compile(&times_out, 1, 3);
        assert_eq!(times_out.over_action, OverAction::Error as u32);
        assert_eq!(times_out.over_argument, 110);
    }

    #[test]
    fn networks_of_both_families() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let private = to("192.168.7.0/24");
        assert_eq!(private.peer_mask, (u128::MAX << 8).to_be_bytes());
        assert!(matches(&private, address("192.168.7.9")));
        assert!(matches(&private, address("::ffff:192.168.7.9")));
        assert!(!matches(&private, address("192.168.8.9")));
        let every_v4 = to("0.0.0.0/0");
        assert!(matches(&every_v4, address("1.2.3.4")));
        assert!(!matches(&every_v4, address("::1")));
        let everyone = to("::/0");
        assert!(matches(&everyone, address("1.2.3.4")));
        assert!(matches(&everyone, address("::1")));
        assert_eq!(to("::1").peer_mask, [0xff; 16]);
    }

    /// The kernel side would compare a port with the length of a unix name.
    #[test]
    fn a_port_leaves_unix_sockets_out() {
        let mut rule = rule();
        rule.filter.port = NonZeroU16::new(80);
        let compiled = compile(&rule, 1, 0);
        assert_eq!((compiled.peer_port, compiled.protocols), (80, 0b0011));
        assert_eq!(to("::/0").protocols, 0b0011);
    }

    #[test]
    fn no_limit_is_the_largest_number() {
        let mut control = Control {
            lease_ns: 1,
            mode: 1,
            error_hook: 0,
            wake_bytes: 2,
            ..Control::default()
        };
        limits(&no_limits(), &mut control);
        let unlimited = Control {
            lease_ns: 1,
            mode: 1,
            error_hook: 0,
            wake_bytes: 2,
            max_total_delay_ns: u64::MAX,
            max_delay_ns_per_second: u64::MAX,
            max_acts_per_second: u64::MAX,
            max_spin_ns: 10_000_000,
            holder_pid: 0,
            holder_address: 0,
            stacks: 0,
        };
        assert_eq!(control, unlimited);
        let all = Limits {
            max_total_delay: Some(Duration::from_secs(3)),
            max_delay_per_second: Some(Duration::from_millis(5)),
            max_acts_per_second: Some(7),
            max_spin: MAX_SPIN,
        };
        limits(&all, &mut control);
        let limited = Control {
            max_total_delay_ns: 3_000_000_000,
            max_delay_ns_per_second: 5_000_000,
            max_acts_per_second: 7,
            max_spin_ns: 400_000_000,
            ..unlimited
        };
        assert_eq!(control, limited);
    }

    proptest! {
        #[test]
        fn the_mask_agrees_with_the_network(
            peer in peer::tests::peers(),
            address in any::<IpAddr>(),
            near in any::<u128>(),
        ) {
            let mut rule = rule();
            rule.filter.to = Some(peer);
            let compiled = compile(&rule, 1, 0);
            // Random addresses are hardly ever inside; these always are.
            let mask = u128::from_be_bytes(compiled.peer_mask);
            let inside = u128::from_be_bytes(compiled.peer_network) | near & !mask;
            prop_assert!(matches(&compiled, Ipv6Addr::from(inside).into()));
            if address.is_ipv4() == peer.network().addr().is_ipv4() {
                prop_assert_eq!(matches(&compiled, address), peer.network().contains(&address));
            }
        }
    }

    /// Whether the kernel side chooses a call, and with which delay.
    fn decisions(delay: &str, seed: u64, thread: u64) -> Vec<(u64, u64)> {
        let rule = Rule {
            when: "3..60+2".parse().unwrap(),
            probability: "30%".parse().unwrap(),
            fault: Fault {
                delay: Some(delay.parse().unwrap()),
                error: None,
            },
            ..rule()
        };
        let table = quantile::table(rule.fault.delay.as_ref().unwrap(), rule.max_delay, |_| {
            Ok("1ms 6\n20ms 3\n900ms 1".into())
        });
        let table = table.unwrap();
        let compiled = compile(&rule, seed, 0);
        let random = |call, draw| decide::random(compiled.seed, 0, thread, call, draw);
        (1..=100)
            .filter(|call| decide::when(&compiled, *call))
            .filter(|call| decide::chance(&compiled, random(*call, Draw::Choice)))
            .map(|call| (call, decide::sample(&table, random(call, Draw::Delay))))
            .collect()
    }

    /// A seed that is written down today must replay in every later version:
    /// which calls of which thread are chosen, and each delay to the
    /// nanosecond. When this fails, old seeds no longer mean what they did.
    #[test]
    fn decisions_of_a_seed_never_change() {
        for (law, delays) in [
            (
                "0..1200ms",
                [1_027_742_986, 223_491_393, 941_317_888, 497_163_071],
            ),
            (
                "normal(80ms,20ms)",
                [101_290_320, 62_163_435, 95_744_971, 75_670_179],
            ),
            ("exp(30ms)", [58_232_681, 6_182_802, 46_034_365, 16_048_566]),
            (
                "pareto(10ms,1.5)",
                [36_475_644, 11_472_819, 27_814_900, 14_285_142],
            ),
            (
                "histogram:x",
                [20_000_000, 1_000_000, 20_000_000, 1_000_000],
            ),
        ] {
            let want: Vec<_> = [9, 11, 15, 21].into_iter().zip(delays).collect();
            assert_eq!(decisions(law, 42, 0)[..4], want, "{law}");
        }
        let chosen = |seed, thread| {
            let decisions = decisions("0..1200ms", seed, thread);
            decisions
                .into_iter()
                .map(|(call, _)| call)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            chosen(42, 0),
            [9, 11, 15, 21, 25, 31, 35, 39, 41, 49, 57, 59]
        );
        assert_eq!(chosen(42, 1), [5, 15, 21, 33, 53, 57]);
        assert_eq!(chosen(43, 0), [13, 27, 47, 49, 59]);
    }

    /// About 15 % of the sends, within four deviations of a
    /// binomial law.
    #[test]
    fn the_share_of_chosen_sends_is_the_probability() {
        let rule = Rule {
            probability: "15%".parse().unwrap(),
            ..rule()
        };
        let compiled = compile(&rule, 42, 0);
        let sends = 100_000;
        let chosen = (1..=sends)
            .filter(|call| decide::chance(&compiled, decide::random(42, 0, 0, *call, Draw::Choice)))
            .count() as f64;
        let deviation = (sends as f64 * 0.15 * 0.85).sqrt();
        assert!(
            (chosen - sends as f64 * 0.15).abs() < 4.0 * deviation,
            "{chosen}"
        );
    }
}
