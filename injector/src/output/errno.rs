//! Names of errnos.

use std::fmt::{self, Display, Formatter};

use nix::errno::Errno;

/// Errnos that the kernel keeps to itself: a probe on a kernel function sees
/// them, the caller never does (`include/linux/errno.h`).
const KERNEL_ONLY: &[(i32, &str)] = &[
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (515, "ENOIOCTLCMD"),
    (516, "ERESTART_RESTARTBLOCK"),
    (529, "EIOCBQUEUED"),
];

/// The name of an errno.
#[derive(Clone, Copy, Debug)]
pub enum Name {
    /// One that programs know.
    Errno(Errno),
    /// One that only the kernel knows.
    Kernel(&'static str),
}

/// The name of this errno, if it has one.
pub fn name(number: i32) -> Option<Name> {
    match Errno::from_raw(number) {
        Errno::UnknownErrno => KERNEL_ONLY
            .iter()
            .find(|(known, _)| *known == number)
            .map(|(_, name)| Name::Kernel(name)),
        known => Some(Name::Errno(known)),
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            // nix names its variants as C does.
            Self::Errno(errno) => write!(f, "{errno:?}"),
            Self::Kernel(name) => f.write_str(name),
        }
    }
}

/// An errno for people: its name, or its number where it has none.
#[derive(Clone, Copy, Debug)]
pub struct NameOrNumber(pub i32);

impl Display for NameOrNumber {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match name(self.0) {
            Some(name) => name.fmt(f),
            None => write!(f, "errno {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_have_the_names_of_c() {
        for (number, want) in [
            (11, "EAGAIN"),
            (104, "ECONNRESET"),
            (110, "ETIMEDOUT"),
            (512, "ERESTARTSYS"),
            (5_000, "errno 5000"),
            (0, "errno 0"),
            (i32::MAX, "errno 2147483647"),
        ] {
            assert_eq!(NameOrNumber(number).to_string(), want);
        }
    }
}
