//! Whom a send goes to.

use std::{fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

use ipnet::IpNet;

use super::malformed::Malformed;

/// What [`Peer::from_str`] accepts.
pub const GRAMMAR: &str = "ADDRESS[/BITS][:PORT], with brackets around IPv6 before a port: \
    10.0.0.0/8 | 10.1.2.3:443 | 2001:db8::/32 | [2001:db8::1]:443";

/// A network of peers, and one port or any. `0.0.0.0/0` is every IPv4 peer.
/// IPv4 peers count as IPv6 ones in `::ffff:0:0/96`, so `::/0` is every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    network: IpNet,
    port: Option<NonZeroU16>,
}

impl Peer {
    /// The network, without host bits.
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// The port, none for any.
    pub fn port(&self) -> Option<NonZeroU16> {
        self.port
    }
}

impl FromStr for Peer {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        read(text.trim()).map_err(|why| Malformed::new("a peer", text, why, GRAMMAR))
    }
}

fn read(text: &str) -> Result<Peer, String> {
    let (network, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or("the closing ] is missing")?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(format!("{after:?} after the ] is no port")),
        };
        (inside, port)
    } else {
        match text.split_once(':') {
            // Two colons or more are an IPv6 address.
            Some((network, port)) if !port.contains(':') => (network, Some(port)),
            _ => (text, None),
        }
    };
    let network = network
        .parse::<IpNet>()
        .or_else(|_| network.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{network:?} is neither an address nor a network"))?
        .trunc();
    let port = match port.map(str::parse::<NonZeroU16>) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => return Err("the port is not a number from 1 to 65535".into()),
    };
    Ok(Peer { network, port })
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = if self.network.prefix_len() == self.network.max_prefix_len() {
            self.network.addr().to_string()
        } else {
            self.network.to_string()
        };
        match (self.network, self.port) {
            (_, None) => f.write_str(&network),
            (IpNet::V4(_), Some(port)) => write!(f, "{network}:{port}"),
            (IpNet::V6(_), Some(port)) => write!(f, "[{network}]:{port}"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form() {
        for (text, network, port, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8", None, "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8", None, "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32", None, "10.1.2.3"),
            ("10.1.2.3:443", "10.1.2.3/32", Some(443), "10.1.2.3:443"),
            ("10.0.0.0/8:443", "10.0.0.0/8", Some(443), "10.0.0.0/8:443"),
            ("0.0.0.0/0", "0.0.0.0/0", None, "0.0.0.0/0"),
            ("::/0", "::/0", None, "::/0"),
            ("2001:db8::/32", "2001:db8::/32", None, "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128", None, "2001:db8::1"),
            ("[::1]", "::1/128", None, "::1"),
            (
                "[2001:db8::/32]:443",
                "2001:db8::/32",
                Some(443),
                "[2001:db8::/32]:443",
            ),
            ("[::1]:443", "::1/128", Some(443), "[::1]:443"),
        ] {
            let peer: Peer = text.parse().unwrap();
            assert_eq!(peer.network(), network.parse().unwrap(), "{text}");
            assert_eq!(peer.port().map(NonZeroU16::get), port, "{text}");
            assert_eq!(peer.to_string(), shown);
        }
    }

    #[test]
    fn refusals_say_why() {
        for (text, why) in [
            ("", "\"\" is neither an address nor a network"),
            ("example.org", "\"example.org\" is neither"),
            ("10.0.0.0/33", "\"10.0.0.0/33\" is neither"),
            ("10.0.0/8", "\"10.0.0/8\" is neither"),
            (":443", "\"\" is neither"),
            ("10.0.0.1:", "the port is not a number"),
            ("10.0.0.1:0", "the port is not a number"),
            ("10.0.0.1:65536", "the port is not a number"),
            ("2001:db8::/32:443", "\"2001:db8::/32:443\" is neither"),
            ("[::1", "the closing ] is missing"),
            ("[::1]443", "\"443\" after the ] is no port"),
        ] {
            let error = text.parse::<Peer>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with(GRAMMAR), "{error}");
        }
    }

    /// Any network of either family with any port.
    pub fn peers() -> impl Strategy<Value = Peer> {
        let networks = (any::<IpAddr>(), 0..=128_u8).prop_map(|(address, bits)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, bits.min(most)).unwrap().trunc()
        });
        (networks, any::<u16>()).prop_map(|(network, port)| Peer {
            network,
            port: NonZeroU16::new(port),
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", near in "\\[?[0-9a-f:./]{0,20}\\]?(:[0-9]{0,6})?") {
            let _ = text.parse::<Peer>();
            let _ = near.parse::<Peer>();
        }

        #[test]
        fn shown_reads_back(peer in peers()) {
            prop_assert_eq!(peer.to_string().parse::<Peer>().unwrap(), peer);
        }
    }
}
