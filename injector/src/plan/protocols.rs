//! Which protocols a rule looks at.

use std::{fmt, ops::BitOr, str::FromStr};

use injector_ebpf::Protocol;

use super::malformed::Malformed;

/// What [`Protocols::from_str`] accepts.
pub const GRAMMAR: &str =
    "one or more, joined by commas, of tcp, udp, unix, unix_stream, unix_dgram";

/// A set of protocols. `unix` stands for both kinds of unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols(u32);

impl Protocols {
    /// Those with addresses and ports.
    pub const INTERNET: Self = Self(bit(Protocol::Tcp) | bit(Protocol::Udp));
    /// Those between processes of one host.
    pub const UNIX: Self = Self(bit(Protocol::UnixStream) | bit(Protocol::UnixDgram));
    /// Everything that the hooks see.
    pub const ALL: Self = Self(Self::INTERNET.0 | Self::UNIX.0);

    /// Bit set of [`Protocol`] numbers.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

const fn bit(protocol: Protocol) -> u32 {
    1 << protocol as u32
}

impl BitOr for Protocols {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Self> for Protocols {
    /// The union, for a flag that is given several times. Of nothing, it is
    /// everything: a filter that was not given lets all through.
    fn from_iter<T: IntoIterator<Item = Self>>(sets: T) -> Self {
        sets.into_iter().reduce(BitOr::bitor).unwrap_or_default()
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for Protocols {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        text.split(',')
            .map(|word| one(word.trim()))
            .collect::<Result<_, _>>()
            .map_err(|why| Malformed::new("a protocol", text, why, GRAMMAR))
    }
}

fn one(word: &str) -> Result<Protocols, String> {
    if word == "unix" {
        return Ok(Protocols::UNIX);
    }
    Protocol::ALL
        .iter()
        .find(|(_, name, _)| *name == word)
        .map(|(protocol, ..)| Protocols(bit(*protocol)))
        .ok_or_else(|| format!("{word:?} is unknown"))
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let both = self.and(Self::UNIX) == Self::UNIX;
        let names = Protocol::ALL
            .iter()
            .filter(|(protocol, ..)| self.0 & bit(*protocol) != 0)
            .filter(|(protocol, ..)| !both || Self::UNIX.0 & bit(*protocol) == 0)
            .map(|(_, name, _)| *name);
        let names: Vec<_> = names.chain(both.then_some("unix")).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_unions() {
        let read = |text: &str| text.parse::<Protocols>().unwrap();
        assert_eq!(read("tcp,udp"), Protocols::INTERNET);
        assert_eq!(read("unix"), read("unix_dgram, unix_stream"));
        assert_eq!(read("tcp").bits(), 1);
        assert_eq!(Protocols::ALL.bits(), 15);
        assert_eq!(
            [read("tcp"), read("udp")]
                .into_iter()
                .collect::<Protocols>(),
            Protocols::INTERNET
        );
        assert_eq!(Protocols::from_iter([]), Protocols::ALL);
        for text in ["", "sctp", "tcp,", "TCP"] {
            let error = text.parse::<Protocols>().unwrap_err().to_string();
            assert!(error.ends_with(GRAMMAR), "{error}");
        }
    }

    #[test]
    fn every_set_reads_back() {
        for bits in 1..=15 {
            let set = Protocols(bits);
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert_eq!(Protocols::ALL.to_string(), "tcp,udp,unix");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Protocols>();
        }
    }
}
