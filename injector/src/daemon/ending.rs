//! Why a run ended, and the exit code that says so.

use std::fmt;

/// What ended a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The time was up.
    Duration,
    /// SIGINT, SIGTERM or SIGHUP.
    Signal(&'static str),
    /// The control socket.
    Control,
    /// A key in the terminal UI.
    Key,
    /// No target is left and none can come.
    TargetsGone,
    /// The command behind `--` ended with this code.
    Command(i32),
    /// The ceiling on all injected delay was reached.
    TotalDelay,
    /// The sleep engine's processes died or hang.
    Engine(String),
    /// Nobody reads our output any more.
    OutputClosed,
}

impl Ending {
    /// 0 for a clean end, 4 for a guard, 1 for an engine that died, else what
    /// the command returned.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command(code) => *code as u8,
            Self::TotalDelay => 4,
            Self::Engine(_) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration => f.write_str("the time was up (--duration)"),
            Self::Signal(name) => write!(f, "{name}"),
            Self::Control => f.write_str("stopped through the control socket"),
            Self::Key => f.write_str("stopped with a key"),
            Self::TargetsGone => f.write_str("no target is left"),
            Self::Command(code) => write!(f, "the command ended with code {code}"),
            Self::TotalDelay => {
                f.write_str("a guard: the ceiling on all injected delay was reached")
            }
            Self::Engine(why) => write!(f, "the sleep engine failed: {why}"),
            Self::OutputClosed => f.write_str("the output was closed"),
        }
    }
}
