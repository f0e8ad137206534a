//! Maps and locks as a table of at most 80 columns, for the live view and the
//! end of a run.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use super::{maps_finding::called, units::Time};
use crate::explain::maps::{LockView, MapView, SyncView, Trace, Waits};

/// Columns of the first column.
const NAME: usize = 29;
/// Rows of each table on a screen.
const ROWS: usize = 8;

/// Maps by contention and risk.
pub(super) fn maps(text: &mut String, maps: &[MapView]) {
    if maps.is_empty() {
        return;
    }
    row(
        text,
        "MAP",
        [
            "GUARD", "READS", "WRITES", "STEPS", "GORS", "WAITED", "RISK",
        ]
        .map(str::to_owned),
    );
    for map in maps {
        let guard = match (&map.guard, map.kind) {
            (_, "inside sync.Map") => "sync.Map".to_owned(),
            (Some(guard), _) => {
                let kind = guard.kind.unwrap_or("lock");
                match map.shards {
                    2.. => format!("{kind}*{}", map.shards),
                    _ => kind.to_owned(),
                }
            }
            (None, _) => "-".to_owned(),
        };
        let risk = map.risk.map_or("-", |(_, confidence)| confidence.name());
        row(
            text,
            &called(&map.about),
            [
                guard,
                short(map.ops.reads),
                short(map.ops.writes()),
                short(map.ops.steps),
                short(map.goroutines),
                waited(map.waits.total_ns),
                risk.to_owned(),
            ],
        );
    }
}

/// `sync.Map`s.
pub(super) fn sync_maps(text: &mut String, maps: &[SyncView]) {
    if maps.is_empty() {
        return;
    }
    row(
        text,
        "SYNC.MAP",
        ["", "LOADS", "STORES", "DELS", "RNGS", "WAITED", "MISSED"].map(str::to_owned),
    );
    for map in maps {
        row(
            text,
            &called(&map.about),
            [
                String::new(),
                short(map.ops.loads),
                short(map.ops.stores),
                short(map.ops.deletes),
                short(map.ops.ranges),
                waited(map.waits.total_ns),
                short(map.ranges_disturbed),
            ],
        );
    }
}

/// Locks by waiting time.
pub(super) fn locks(text: &mut String, locks: &[LockView]) {
    if locks.is_empty() {
        return;
    }
    row(
        text,
        "LOCK",
        ["KIND", "WAITS", "P50", "P99", "NOW", "WAITED", "MAX"].map(str::to_owned),
    );
    for lock in locks {
        let (p50, p99) = match lock.quantiles_ns {
            Some((p50, p99)) => (Time(p50).to_string(), Time(p99).to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        row(
            text,
            &called(&lock.about),
            [
                lock.about.what.to_owned(),
                short(lock.waits.count),
                p50,
                p99,
                short(lock.open.map_or(0, |(waiting, _)| u64::from(waiting))),
                waited(lock.waits.total_ns),
                waited(lock.waits.max_ns),
            ],
        );
    }
}

fn row(text: &mut String, name: &str, cells: [String; 7]) {
    let [guard, numbers @ .., last] = cells;
    let length = name.chars().count();
    if length > NAME {
        // The end of a name tells more than its package.
        text.push('~');
        text.extend(name.chars().skip(length - NAME + 1));
    } else {
        let _ = write!(text, "{name:<NAME$}");
    }
    let _ = write!(text, " {guard:<10}");
    for (number, width) in numbers.iter().zip([6, 6, 6, 4, 6]) {
        let _ = write!(text, " {number:>width$}");
    }
    let _ = writeln!(text, " {last:>6}");
}

/// A number in at most five characters: `9999`, `12k`, `3.4M`.
fn short(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000, "k"),
        (1_000_000, "M"),
        (1_000_000_000, "G"),
        (1_000_000_000_000, "T"),
    ];
    if number < 10_000 {
        return number.to_string();
    }
    let (size, unit) = UNITS
        .into_iter()
        .find(|(size, _)| number / size < 1_000)
        .unwrap_or(UNITS[3]);
    match number / size {
        0..10 => format!("{}.{}{unit}", number / size, number % size * 10 / size),
        whole => format!("{}{unit}", whole.min(9999)),
    }
}

fn waited(ns: u64) -> String {
    match ns {
        0 => "-".to_owned(),
        ns => Time(ns).to_string(),
    }
}

/// The table that is drawn anew in its place.
#[derive(Debug, Default)]
pub struct Screen {
    lines: usize,
}

impl Screen {
    /// Draws what is known now over what was drawn before.
    pub fn draw(&mut self, out: &mut dyn Write, trace: &Trace) -> io::Result<()> {
        let mut text = String::new();
        maps(&mut text, &trace.maps(ROWS));
        sync_maps(&mut text, &trace.sync_maps(ROWS / 2));
        locks(&mut text, &trace.locks(ROWS));
        self.clear(out)?;
        out.write_all(text.as_bytes())?;
        self.lines = text.matches('\n').count();
        Ok(())
    }

    /// Takes it away, to make room for lines that stay.
    pub fn clear(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match std::mem::take(&mut self.lines) {
            0 => Ok(()),
            lines => write!(out, "\x1b[{lines}A\r\x1b[J"),
        }
    }
}

/// One line with what is known now, for outputs that are no terminal.
pub fn line(out: &mut dyn Write, trace: &Trace) -> io::Result<()> {
    let locks = trace.locks(usize::MAX);
    let none = Waits::default();
    let waits = locks.iter().fold(none, |sum, lock| sum.plus(lock.waits));
    writeln!(
        out,
        "events {}  maps {}  contended locks {}  waits {} ({})",
        trace.events(),
        trace.maps(usize::MAX).len(),
        locks.len(),
        waits.count,
        Time(waits.total_ns)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::maps_fixture, *};

    #[test]
    fn maps_and_locks_fit_eighty_columns() {
        let mut text = String::new();
        let map = maps_fixture::map();
        let shard = MapView {
            shards: 16,
            risk: None,
            ..map.clone()
        };
        maps(&mut text, &[map, shard]);
        locks(&mut text, &[maps_fixture::lock()]);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().rev().take(7).collect())
            .collect();
        assert_eq!(
            rows[1],
            ["low", "1.2s", "8", "3600", "1000", "120k", "RWMutex"]
        );
        assert_eq!(
            rows[2],
            ["-", "1.2s", "8", "3600", "1000", "120k", "RWMutex*16"]
        );
        assert_eq!(
            rows[4],
            ["90ms", "1.2s", "2", "88ms", "20ms", "31", "RWMutex"]
        );
    }

    #[test]
    fn a_screen_is_cleared_before_it_is_drawn_again() {
        let mut screen = Screen { lines: 3 };
        let mut out = Vec::new();
        screen.clear(&mut out).unwrap();
        screen.clear(&mut out).unwrap();
        assert_eq!(out, b"\x1b[3A\r\x1b[J");
    }

    proptest! {
        #[test]
        fn any_number_is_short(number in any::<u64>()) {
            prop_assert!(short(number).len() <= 5, "{}", short(number));
        }
    }
}
