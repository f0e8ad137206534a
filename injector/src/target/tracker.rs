//! Keeps the kernel's target table in step with the processes that match.

use std::collections::BTreeMap;

use injector_ebpf::{LifecycleEvent, LifecycleKind, Target, target_flags};

use super::{
    process::Process,
    protection::{Protected, Protection},
    selector::Selector,
};

/// Where targets are put: the kernel's table, or a list in a test.
pub trait TargetTable {
    /// Adds or replaces; false when the table is full.
    fn add(&mut self, pid: u32, target: Target) -> bool;
    /// Removes; the process may have gone by itself.
    fn remove(&mut self, pid: u32);
}

/// What changed, for the status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process became a target.
    Added {
        /// Its id.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// A target is no longer one.
    Removed {
        /// Its id.
        pid: u32,
        /// Whether it ended, else it changed.
        ended: bool,
    },
    /// A matching process was left alone.
    Refused {
        /// Its id.
        pid: u32,
        /// Why.
        reason: String,
    },
}

/// One target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It matches the selector.
    Matched,
    /// It descends from one that does, and children were asked for.
    Descends,
}

/// The set of targets of one rule.
pub struct Tracker {
    selector: Selector,
    rule: u32,
    protection: Protection,
    targets: BTreeMap<u32, Origin>,
    refused: BTreeMap<u32, String>,
    ever: u64,
}

impl Tracker {
    /// Starts with no targets.
    pub fn new(selector: Selector, rule: u32) -> Self {
        Self {
            selector,
            rule,
            protection: Protection::of_this_process(),
            targets: BTreeMap::new(),
            refused: BTreeMap::new(),
            ever: 0,
        }
    }

    /// Number of targets now.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Processes that have been targets.
    pub fn ever(&self) -> u64 {
        self.ever
    }

    /// Why a process may not be a target.
    pub fn protected(&self, pid: u32) -> Result<(), Protected> {
        self.protection.check(Process { pid })
    }

    /// Processes that match now, before anything is attached.
    pub fn preview(&self, all: &[Process]) -> Vec<Process> {
        all.iter()
            .copied()
            .filter(|&process| {
                self.selector.matches(process) && self.protection.check(process).is_ok()
            })
            .collect()
    }

    /// Compares the table with all processes: the start, and later the net
    /// under the events (a process can rename itself or move between cgroups).
    pub fn scan(&mut self, all: &[Process], table: &mut impl TargetTable) -> Vec<Change> {
        let mut changes = Vec::new();
        let gone: Vec<_> = self
            .targets
            .keys()
            .copied()
            .filter(|&pid| !all.contains(&Process { pid }))
            .collect();
        for pid in gone {
            self.drop_target(pid, true, table, &mut changes);
        }
        self.refused
            .retain(|&pid, _| all.contains(&Process { pid }));
        for &process in all {
            self.consider(process, table, &mut changes);
        }
        changes
    }

    /// Follows one event of the kernel side.
    pub fn event(&mut self, event: &LifecycleEvent, table: &mut impl TargetTable) -> Vec<Change> {
        let mut changes = Vec::new();
        let process = Process { pid: event.tgid };
        match LifecycleKind::from_number(event.kind) {
            Some(LifecycleKind::Fork) => {
                // The kernel side has made it a target already.
                let origin = if self.selector.children {
                    Origin::Descends
                } else {
                    Origin::Matched
                };
                if self.targets.insert(event.tgid, origin).is_none() {
                    self.ever += 1;
                    changes.push(Change::Added {
                        pid: event.tgid,
                        comm: process.comm().unwrap_or_default(),
                    });
                }
            }
            Some(LifecycleKind::Exec) => self.consider(process, table, &mut changes),
            Some(LifecycleKind::Exit) => {
                self.refused.remove(&event.tgid);
                self.drop_target(event.tgid, true, table, &mut changes);
            }
            None => {}
        }
        changes
    }

    /// Decides about one process anew.
    fn consider(
        &mut self,
        process: Process,
        table: &mut impl TargetTable,
        changes: &mut Vec<Change>,
    ) {
        let pid = process.pid;
        let known = self.targets.get(&pid).copied();
        if known == Some(Origin::Descends) {
            return;
        }
        let origin = if self.selector.matches(process) {
            Origin::Matched
        } else if self.selector.children && self.descends(process) {
            Origin::Descends
        } else {
            if known.is_some() {
                self.drop_target(pid, false, table, changes);
            }
            return;
        };
        if known.is_some() {
            return;
        }
        let mut refuse = |reason: String| {
            if self.refused.insert(pid, reason.clone()).is_none() {
                changes.push(Change::Refused { pid, reason });
            }
        };
        if let Err(reason) = self.protection.check(process) {
            refuse(reason.to_string());
            return;
        }
        let flags = if self.selector.children_inherit() {
            target_flags::INHERIT
        } else {
            0
        };
        let target = Target {
            rule: self.rule,
            flags,
        };
        if !table.add(pid, target) {
            refuse("the target table is full (--max-targets)".to_owned());
            return;
        }
        self.refused.remove(&pid);
        self.targets.insert(pid, origin);
        self.ever += 1;
        changes.push(Change::Added {
            pid,
            comm: process.comm().unwrap_or_default(),
        });
    }

    /// Whether a parent of this process is a target or matches.
    fn descends(&self, process: Process) -> bool {
        process
            .ancestors()
            .iter()
            .any(|&parent| self.targets.contains_key(&parent.pid) || self.selector.matches(parent))
    }

    fn drop_target(
        &mut self,
        pid: u32,
        ended: bool,
        table: &mut impl TargetTable,
        changes: &mut Vec<Change>,
    ) {
        if self.targets.remove(&pid).is_some() {
            table.remove(pid);
            changes.push(Change::Removed { pid, ended });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    #[derive(Default)]
    struct List {
        entries: BTreeMap<u32, Target>,
        room: usize,
    }

    impl TargetTable for List {
        fn add(&mut self, pid: u32, target: Target) -> bool {
            let fits = self.entries.len() < self.room;
            if fits {
                self.entries.insert(pid, target);
            }
            fits
        }

        fn remove(&mut self, pid: u32) {
            self.entries.remove(&pid);
        }
    }

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(
                Command::new("sleep")
                    .arg("60")
                    .env("INJECTOR_TEST", "gray")
                    .spawn()
                    .unwrap(),
            )
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn event(kind: LifecycleKind, tgid: u32) -> LifecycleEvent {
        LifecycleEvent {
            tgid,
            parent: 0,
            kind: kind as u8,
            reserved: [0; 7],
        }
    }

    #[test]
    fn matching_process_comes_and_goes() {
        let sleeper = Sleeper::start();
        let pid = sleeper.0.id();
        let selector = Selector {
            pids: vec![pid],
            ..Selector::default()
        };
        let mut table = List {
            room: 1,
            ..List::default()
        };
        let mut tracker = Tracker::new(selector, 3);
        let changes = tracker.scan(&Process::all().unwrap(), &mut table);
        assert!(matches!(&changes[..], [Change::Added { pid: added, .. }] if *added == pid));
        assert_eq!(table.entries[&pid], Target { rule: 3, flags: 0 });
        assert!(
            tracker
                .scan(&Process::all().unwrap(), &mut table)
                .is_empty()
        );
        let changes = tracker.event(&event(LifecycleKind::Exit, pid), &mut table);
        assert_eq!(changes, [Change::Removed { pid, ended: true }]);
        assert!(table.entries.is_empty());
    }

    #[test]
    fn full_table_is_said_once() {
        let sleeper = Sleeper::start();
        let selector = Selector {
            pids: vec![sleeper.0.id()],
            ..Selector::default()
        };
        let mut tracker = Tracker::new(selector, 0);
        let mut table = List::default();
        let all = Process::all().unwrap();
        assert!(matches!(
            &tracker.scan(&all, &mut table)[..],
            [Change::Refused { .. }]
        ));
        assert!(tracker.scan(&all, &mut table).is_empty());
    }

    #[test]
    fn children_are_found_and_inherit() {
        let sleeper = Sleeper::start();
        let own = std::process::id();
        let selector = Selector {
            pids: vec![own],
            children: true,
            ..Selector::default()
        };
        let mut table = List {
            room: 8,
            ..List::default()
        };
        let mut tracker = Tracker::new(selector, 0);
        tracker.scan(&Process::all().unwrap(), &mut table);
        assert_eq!(table.entries[&sleeper.0.id()].flags, target_flags::INHERIT);
        assert!(!table.entries.contains_key(&own), "ourselves");
    }
}
