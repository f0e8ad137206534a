//! Which sends of a target a rule is about.

use std::num::NonZeroU16;

use super::{bytes::Bytes, peer::Peer, protocols::Protocols};

/// A send matches when everything here matches. The default matches all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Protocols.
    pub protocols: Protocols,
    /// Network of the peer, none for any.
    pub to: Option<Peer>,
    /// Port of the peer, none for any.
    pub port: Option<NonZeroU16>,
    /// Least number of bytes asked to send. Where a hook cannot know how many
    /// (`sendmmsg` seen by tracepoints), they count as 0.
    pub min_bytes: Bytes,
}

/// A filter that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Unix sockets have no address.
    #[error(
        "--to and --port are about tcp and udp: unix sockets have neither address nor port (--proto {0})"
    )]
    UnixPeer(Protocols),
    /// Two ports.
    #[error("--to names port {to} and --port {port}: no send has both")]
    TwoPorts {
        /// The port within `to`.
        to: NonZeroU16,
        /// The other.
        port: NonZeroU16,
    },
}

impl Filter {
    /// Whether any send could match.
    pub fn validate(&self) -> Result<(), FilterError> {
        let unix = !self.protocols.and(Protocols::UNIX).is_empty();
        // All protocols are what a filter has when nobody asked for any.
        if self.names_peer() && unix && self.protocols != Protocols::ALL {
            return Err(FilterError::UnixPeer(self.protocols));
        }
        match (self.to.and_then(|to| to.port()), self.port) {
            (Some(to), Some(port)) if to != port => Err(FilterError::TwoPorts { to, port }),
            _ => Ok(()),
        }
    }

    /// The protocols that can match: those of the internet when an address or
    /// port is asked for. The kernel side compares with what a unix socket
    /// has in that place, which is its name and the length of it.
    pub(super) fn effective_protocols(&self) -> Protocols {
        if self.names_peer() {
            self.protocols.and(Protocols::INTERNET)
        } else {
            self.protocols
        }
    }

    /// The port to compare with, from either flag.
    pub(super) fn effective_port(&self) -> Option<NonZeroU16> {
        self.port.or(self.to.and_then(|to| to.port()))
    }

    fn names_peer(&self) -> bool {
        self.to.is_some() || self.port.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions() {
        let filter = |protocols: &str, to: Option<&str>, port| {
            let filter = Filter {
                protocols: protocols.parse().unwrap(),
                to: to.map(|to| to.parse().unwrap()),
                port: NonZeroU16::new(port),
                ..Filter::default()
            };
            filter.validate().err().map(|error| error.to_string())
        };
        assert_eq!(filter("tcp,unix", None, 0), None);
        assert_eq!(filter("tcp,udp,unix", Some("10.0.0.0/8"), 0), None);
        assert_eq!(filter("udp", Some("10.0.0.0/8:53"), 53), None);
        let unix =
            "--to and --port are about tcp and udp: unix sockets have neither address nor port";
        for (protocols, to, port) in [("unix", Some("::1"), 0), ("tcp,unix_dgram", None, 1)] {
            let error = filter(protocols, to, port).unwrap();
            assert!(error.starts_with(unix), "{error}");
        }
        assert_eq!(filter("tcp", Some("::/0"), 0), None);
        assert_eq!(
            filter("tcp", Some("[::1]:80"), 443).unwrap(),
            "--to names port 80 and --port 443: no send has both"
        );
    }

    #[test]
    fn naming_a_peer_leaves_unix_sockets_out() {
        let all = Filter::default();
        assert_eq!(all.effective_protocols(), Protocols::ALL);
        let port = Filter {
            port: NonZeroU16::new(80),
            ..all
        };
        assert_eq!(port.effective_protocols(), Protocols::INTERNET);
        let to = Filter {
            to: Some("[::1]:81".parse().unwrap()),
            ..all
        };
        assert_eq!(to.effective_protocols(), Protocols::INTERNET);
        assert_eq!(to.effective_port(), NonZeroU16::new(81));
    }
}
