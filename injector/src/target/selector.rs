//! The words that select processes. All that are given must hold.

use std::{
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use globset::{Glob, GlobMatcher};
use thiserror::Error;

use super::process::Process;

/// A `--comm` pattern: a name, or a glob with `*`, `?`, `[…]`.
#[derive(Clone, Debug)]
pub struct CommPattern {
    text: String,
    matcher: GlobMatcher,
}

/// An `--env` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvCondition(String);

/// Why a selector word was refused.
#[derive(Debug, Error)]
pub enum SelectorError {
    /// Bad glob.
    #[error(
        "'{0}' is no process name or glob ({1}); examples: order-api, 'order-*', 'worker[0-9]'"
    )]
    Comm(String, globset::Error),
    /// A name that no process can have.
    #[error("'{0}' can match no process: the kernel keeps 15 bytes of a name; use '{1}'")]
    LongComm(String, String),
    /// No `=`.
    #[error("'{0}' is no KEY=VALUE; example: env=gray")]
    Env(String),
}

/// The kernel keeps one byte of `TASK_COMM_LEN` for the zero.
const COMM_MAX: usize = injector_ebpf::COMM_LEN - 1;

impl FromStr for CommPattern {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let is_glob = text.contains(['*', '?', '[', '{']);
        if text.len() > COMM_MAX && !is_glob {
            let mut end = COMM_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            return Err(SelectorError::LongComm(
                text.to_owned(),
                text[..end].to_owned(),
            ));
        }
        let glob = Glob::new(text).map_err(|error| SelectorError::Comm(text.to_owned(), error))?;
        Ok(Self {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
        })
    }
}

impl fmt::Display for CommPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for EnvCondition {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        match text.split_once('=') {
            Some((key, _)) if !key.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(SelectorError::Env(text.to_owned())),
        }
    }
}

impl fmt::Display for EnvCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What selects processes.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Any of these processes; empty: any process.
    pub pids: Vec<u32>,
    /// Their descendants, too.
    pub children: bool,
    /// Any of these names; empty: any name.
    pub comm: Vec<CommPattern>,
    /// In this cgroup or below.
    pub cgroup: Option<PathBuf>,
    /// All of these in the environment.
    pub env: Vec<EnvCondition>,
    /// This program file.
    pub exe: Option<PathBuf>,
}

impl Selector {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty()
            && self.comm.is_empty()
            && self.cgroup.is_none()
            && self.env.is_empty()
            && self.exe.is_none()
    }

    /// Whether a process that did not exist at the start can match by itself.
    pub fn is_open(&self) -> bool {
        self.pids.is_empty() && !self.is_empty()
    }

    /// Whether a child must be a target from its first instruction: it has the
    /// name, environment, program and cgroup of its parent until it executes
    /// something else.
    pub fn children_inherit(&self) -> bool {
        self.children || self.is_open()
    }

    /// Whether this process matches by itself, children aside. A process that
    /// ends while it is looked at does not match.
    pub fn matches(&self, process: Process) -> bool {
        if self.is_empty() {
            return false;
        }
        (self.pids.is_empty() || self.pids.contains(&process.pid))
            && (self.comm.is_empty()
                || process.comm().is_some_and(|comm| {
                    self.comm
                        .iter()
                        .any(|pattern| pattern.matcher.is_match(&comm))
                }))
            && self
                .exe
                .as_ref()
                .is_none_or(|exe| process.exe().as_ref() == Some(exe))
            && self
                .cgroup
                .as_ref()
                .is_none_or(|cgroup| process.cgroup().is_some_and(|own| own.starts_with(cgroup)))
            && (self.env.is_empty()
                || process.environment().is_some_and(|environment| {
                    self.env.iter().all(|condition| {
                        environment
                            .iter()
                            .any(|entry| entry == condition.0.as_bytes())
                    })
                }))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.pids.is_empty() {
            let pids: Vec<_> = self.pids.iter().map(ToString::to_string).collect();
            words.push(format!("pid {}", pids.join(" or ")));
        }
        if !self.comm.is_empty() {
            let names: Vec<_> = self.comm.iter().map(ToString::to_string).collect();
            words.push(format!("comm {}", names.join(" or ")));
        }
        words.extend(self.env.iter().map(|condition| format!("env {condition}")));
        words.extend(self.exe.iter().map(|exe| format!("exe {}", exe.display())));
        words.extend(
            self.cgroup
                .iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
        let children = if self.children { ", with children" } else { "" };
        write!(f, "{}{children}", words.join(" and "))
    }
}

/// The path of a cgroup as `/proc/PID/cgroup` writes it, from a path there or
/// below a cgroup v2 mount such as `/sys/fs/cgroup`.
pub fn cgroup_path(given: &Path, mounts: &str) -> PathBuf {
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(point), Some("cgroup2")) = (fields.nth(1), fields.next()) else {
            continue;
        };
        if let Ok(rest) = given.strip_prefix(point) {
            return Path::new("/").join(rest);
        }
    }
    if given.as_os_str().as_bytes().first() == Some(&b'/') {
        given.to_owned()
    } else {
        Path::new("/").join(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Process {
        Process {
            pid: std::process::id(),
        }
    }

    #[test]
    fn words_combine_with_and() {
        let comm = own().comm().unwrap();
        let by_comm = Selector {
            comm: vec![comm.parse().unwrap()],
            ..Selector::default()
        };
        assert!(by_comm.matches(own()));
        let and_other_pid = Selector {
            pids: vec![1],
            ..by_comm.clone()
        };
        assert!(!and_other_pid.matches(own()));
        let glob: String = comm.chars().take(2).chain(['*']).collect();
        let by_glob = Selector {
            comm: vec!["no-such".parse().unwrap(), glob.parse().unwrap()],
            exe: own().exe(),
            ..Selector::default()
        };
        assert!(by_glob.matches(own()));
        assert!(!Selector::default().matches(own()));
    }

    #[test]
    fn environment_conditions_must_all_hold() {
        let path = own()
            .environment()
            .unwrap()
            .into_iter()
            .find(|entry| entry.starts_with(b"PATH="))
            .map(|entry| String::from_utf8(entry).unwrap())
            .unwrap();
        let mut selector = Selector {
            env: vec![path.parse().unwrap()],
            ..Selector::default()
        };
        assert!(selector.matches(own()));
        selector.env.push("INJECTOR_NO_SUCH=1".parse().unwrap());
        assert!(!selector.matches(own()));
    }

    #[test]
    fn impossible_names_are_refused_with_the_possible_one() {
        let error = "a-very-long-process-name"
            .parse::<CommPattern>()
            .unwrap_err();
        assert!(error.to_string().contains("'a-very-long-pro'"), "{error}");
        assert!("novalue".parse::<EnvCondition>().is_err());
        assert!("[".parse::<CommPattern>().is_err());
    }

    #[test]
    fn cgroup_paths_are_understood_both_ways() {
        let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        for given in ["/sys/fs/cgroup/a/b", "/a/b", "a/b"] {
            assert_eq!(cgroup_path(Path::new(given), mounts), Path::new("/a/b"));
        }
    }
}
