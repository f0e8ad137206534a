//! Signals and errors by name or number.

use injector_ebpf::Operation;
use nix::{errno::Errno, sys::signal::Signal};

use super::malformed::Malformed;

/// What [`signal`] accepts.
pub const SIGNAL_GRAMMAR: &str = "a name as SIGUSR2 or USR2, or a number as 12";

/// What [`errno`] accepts.
pub const ERRNO_GRAMMAR: &str = "a name as ECONNRESET, or a number as 104";

/// What [`operation`] accepts.
pub const OPERATION_GRAMMAR: &str = "send, connect, accept or recv";

/// Highest number that the kernel takes for an error (`MAX_ERRNO` of
/// `include/linux/err.h`).
const MAX_ERRNO: i32 = 4095;

/// Names that Linux gives to an error that has another one.
const ALIASES: [(&str, Errno); 3] = [
    ("EWOULDBLOCK", Errno::EWOULDBLOCK),
    ("EDEADLOCK", Errno::EDEADLOCK),
    ("ENOTSUP", Errno::ENOTSUP),
];

/// How many names are offered for an unknown one.
const SHOWN: usize = 3;

/// Letters by which a name may differ to be taken for a slip.
const SLIPS: usize = 2;

/// Reads a signal. Real-time signals have no name of their own and are refused.
pub fn signal(text: &str) -> Result<Signal, Malformed> {
    let malformed = |why| Malformed::new("a signal", text, why, SIGNAL_GRAMMAR);
    let given = text.trim();
    if let Ok(number) = given.parse::<i32>() {
        return Signal::try_from(number)
            .map_err(|_| malformed("no signal with a name has this number".into()));
    }
    let upper = given.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let bare = |signal: Signal| &signal.as_str()["SIG".len()..];
    Signal::iterator()
        .find(|signal| bare(*signal) == name)
        .ok_or_else(|| {
            let near = nearest(name, Signal::iterator().map(|signal| bare(signal).into()));
            malformed(unknown("SIG", &near))
        })
}

/// Reads an operation on a socket.
pub fn operation(text: &str) -> Result<Operation, Malformed> {
    Operation::ALL
        .iter()
        .find(|(_, name, _)| *name == text.trim())
        .map(|(operation, _, _)| *operation)
        .ok_or_else(|| {
            let names = Operation::ALL.iter().map(|(_, name, _)| (*name).into());
            let near = nearest(text.trim(), names);
            Malformed::new("an operation", text, unknown("", &near), OPERATION_GRAMMAR)
        })
}

/// Reads an error.
pub fn errno(text: &str) -> Result<Errno, Malformed> {
    let malformed = |why| Malformed::new("an error", text, why, ERRNO_GRAMMAR);
    let given = text.trim();
    if let Ok(number) = given.parse::<i32>() {
        return match Errno::from_raw(number) {
            Errno::UnknownErrno => Err(malformed("no error has this number".into())),
            errno => Ok(errno),
        };
    }
    let name = given.to_uppercase();
    let aliases = || {
        ALIASES
            .iter()
            .map(|(name, errno)| ((*name).to_owned(), *errno))
    };
    errnos()
        .map(|errno| (errno_name(errno), errno))
        .chain(aliases())
        .find(|(known, _)| *known == name)
        .map(|(_, errno)| errno)
        .ok_or_else(|| malformed(unknown("", &nearest(&name, errnos().map(errno_name)))))
}

/// The name of an error, as `ECONNRESET`.
pub fn errno_name(errno: Errno) -> String {
    // `Display` adds the description.
    format!("{errno:?}")
}

fn errnos() -> impl Iterator<Item = Errno> {
    (1..=MAX_ERRNO)
        .map(Errno::from_raw)
        .filter(|errno| *errno != Errno::UnknownErrno)
}

fn unknown(prefix: &str, near: &[String]) -> String {
    if near.is_empty() {
        return "there is no such name".into();
    }
    let near: Vec<String> = near.iter().map(|name| format!("{prefix}{name}")).collect();
    format!(
        "there is no such name (did you mean {}?)",
        near.join(" or ")
    )
}

/// The names that were most likely meant: those that differ by the fewest
/// letters, or else those that hold what was given.
fn nearest(given: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let slips = SLIPS.min(given.len() / 2);
    let names: Vec<(usize, String)> = names.map(|name| (distance(given, &name), name)).collect();
    let least = names.iter().map(|(distance, _)| *distance).min();
    let least = least.filter(|least| *least <= slips);
    names
        .into_iter()
        .filter(|(distance, name)| match least {
            Some(least) => *distance == least,
            None => given.len() > SLIPS && name.contains(given),
        })
        .take(SHOWN)
        .map(|(_, name)| name)
        .collect()
}

/// Levenshtein distance: letters to insert, delete or change.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signals_by_any_name() {
        for text in ["SIGUSR2", "USR2", "usr2", "SigUsr2", " 12 "] {
            assert_eq!(signal(text), Ok(Signal::SIGUSR2), "{text}");
        }
    }

    #[test]
    fn errors_by_any_name() {
        for text in ["ECONNRESET", "econnreset", "104"] {
            assert_eq!(errno(text), Ok(Errno::ECONNRESET), "{text}");
        }
        assert_eq!(errno("EWOULDBLOCK"), Ok(Errno::EAGAIN));
        assert_eq!(errno("ENOTSUP"), Ok(Errno::EOPNOTSUPP));
    }

    #[test]
    fn every_name_reads_back() {
        for known in Signal::iterator() {
            assert_eq!(signal(known.as_str()), Ok(known));
            assert_eq!(signal(&(known as i32).to_string()), Ok(known));
        }
        assert!(errnos().count() > 100);
        for known in errnos() {
            assert_eq!(errno(&errno_name(known)), Ok(known));
            assert_eq!(errno(&(known as i32).to_string()), Ok(known));
        }
    }

    #[test]
    fn unknown_names_get_the_near_ones() {
        assert_eq!(
            signal("SIGUSR3").unwrap_err().to_string(),
            "\"SIGUSR3\" is not a signal: there is no such name (did you mean SIGUSR1 or \
             SIGUSR2?); accepted: a name as SIGUSR2 or USR2, or a number as 12"
        );
        for (text, why) in [
            ("CONNRESET", "did you mean ECONNRESET?"),
            ("ETIMEOUT", "did you mean ETIMEDOUT?"),
            ("RESET", "did you mean ENETRESET or ECONNRESET?"),
            ("EVERYTHING", "there is no such name;"),
            ("", "there is no such name;"),
            ("0", "no error has this number"),
            ("-104", "no error has this number"),
            ("512", "no error has this number"),
        ] {
            let error = errno(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        for text in ["0", "-9", "64", "99999999999", "SIG", "ünknown"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", near in "(SIG|E)?[A-Z0-9]{0,8}") {
            for text in [text, near] {
                let _ = signal(&text);
                let _ = errno(&text);
            }
        }
    }
}
