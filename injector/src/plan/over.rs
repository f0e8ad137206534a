//! What happens to a send that passes the threshold.

use std::{fmt, str::FromStr};

use nix::{errno::Errno, sys::signal::Signal};

use super::{malformed::Malformed, names};

/// What [`Over::from_str`] accepts.
pub const GRAMMAR: &str =
    "flag | signal:NAME (signal:SIGUSR2) | error:ERRNO (error:ETIMEDOUT) | kill";

/// The action for a send over the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Its record is flagged, as with every other action too.
    #[default]
    Flag,
    /// The sending thread gets a signal when the send is over; `kill` is
    /// SIGKILL.
    Signal(Signal),
    /// The send fails instead. That is decided before it starts, so only the
    /// delay that was asked for can pass the threshold, not the time that the
    /// send itself takes.
    Error(Errno),
}

impl FromStr for Over {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        read(text.trim())
            .map_err(|why| Malformed::new("an action for slow sends", text, why, GRAMMAR))
    }
}

fn read(text: &str) -> Result<Over, String> {
    let reason = |error: Malformed| error.reason();
    match text.split_once(':') {
        None if text == "flag" => Ok(Over::Flag),
        None if text == "kill" => Ok(Over::Signal(Signal::SIGKILL)),
        Some(("signal", name)) => names::signal(name).map(Over::Signal).map_err(reason),
        Some(("error", name)) => names::errno(name).map(Over::Error).map_err(reason),
        None if text == "signal" || text == "error" => Err(format!("{text}: needs a name")),
        _ => Err("there is no such action".into()),
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Signal(Signal::SIGKILL) => f.write_str("kill"),
            Self::Signal(signal) => write!(f, "signal:{signal}"),
            Self::Error(errno) => write!(f, "error:{}", names::errno_name(*errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_action_reads_back() {
        for (text, over) in [
            ("flag", Over::Flag),
            ("signal:SIGUSR2", Over::Signal(Signal::SIGUSR2)),
            ("error:ETIMEDOUT", Over::Error(Errno::ETIMEDOUT)),
            ("kill", Over::Signal(Signal::SIGKILL)),
        ] {
            assert_eq!(text.parse(), Ok(over));
            assert_eq!(over.to_string(), text);
        }
        assert_eq!("signal:9".parse(), Ok(Over::Signal(Signal::SIGKILL)));
        assert_eq!("signal:usr1".parse(), Ok(Over::Signal(Signal::SIGUSR1)));
    }

    #[test]
    fn refusals_say_why() {
        for (text, why) in [
            ("", "no such action"),
            ("panic", "no such action"),
            ("kill:9", "no such action"),
            ("signal", "signal: needs a name"),
            (
                "signal:USR3",
                "\"USR3\" is not a signal: there is no such name (did you mean",
            ),
            ("error:ETIMEOUT", "did you mean ETIMEDOUT?"),
        ] {
            let error = text.parse::<Over>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with(GRAMMAR), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", near in "(flag|kill|signal|error)?:?.{0,8}") {
            let _ = text.parse::<Over>();
            let _ = near.parse::<Over>();
        }
    }
}
