//! How long sends took, over time: for each column of time and each row of the
//! logarithmic scale, how many sends.

use injector_ebpf::SendRecord;
use serde::Serialize;

use super::columns::{Columns, Sum};
use crate::explain::{EDGES, ROWS, SendView, Times};

/// What is told apart, in the order of the page.
const KINDS: [&str; 3] = ["asked", "delivered", "natural"];

/// Sends in a column, by kind and row.
#[derive(Debug)]
struct Column([[u64; ROWS]; KINDS.len()]);

impl Default for Column {
    fn default() -> Self {
        Self([[0; ROWS]; KINDS.len()])
    }
}

impl Sum for Column {
    fn add(&mut self, other: &Self) {
        let cells = self.0.as_flattened_mut().iter_mut();
        for (cell, more) in cells.zip(other.0.as_flattened()) {
            *cell += more;
        }
    }
}

/// Collects it; takes 120 KiB at most.
#[derive(Debug, Default)]
pub struct Heat {
    columns: Columns<Column>,
    /// Sends that have no times.
    untimed: u64,
}

/// What the page is made of.
#[derive(Debug, Serialize)]
pub struct Map {
    /// How wide a column is, in nanoseconds.
    column_ns: u64,
    columns: usize,
    /// Where each row begins, in nanoseconds.
    rows: &'static [u64],
    untimed: u64,
    kinds: Vec<Kind>,
}

#[derive(Debug, Serialize)]
struct Kind {
    name: &'static str,
    /// Column, row and count of what is not empty.
    cells: Vec<(usize, usize, u64)>,
}

impl Map {
    /// How wide a column is, in nanoseconds.
    pub fn column_ns(&self) -> u64 {
        self.column_ns
    }
}

impl Heat {
    /// Adds a send of a run that began at this time.
    pub fn send(&mut self, record: &SendRecord, start_ns: u64) {
        let send = SendView::new(record);
        let Some(time) = send.start() else {
            self.untimed += 1;
            return;
        };
        let times = [send.asked(), send.delivered(), send.natural()];
        let column = self.columns.at(time.saturating_sub(start_ns));
        for (rows, ns) in column.0.iter_mut().zip(times) {
            if let Some(ns) = ns {
                rows[Times::row_of(ns)] += 1;
            }
        }
    }

    /// For the page.
    pub fn map(&self) -> Map {
        let kinds = KINDS.iter().enumerate().map(|(kind, name)| {
            let columns = self.columns.iter().enumerate();
            let cells = columns.flat_map(|(index, column)| {
                let rows = column.0[kind].iter().enumerate();
                rows.filter(|(_, count)| **count > 0)
                    .map(move |(row, count)| (index, row, *count))
            });
            Kind {
                name,
                cells: cells.collect(),
            }
        });
        Map {
            column_ns: self.columns.width_ns(),
            columns: self.columns.iter().count(),
            rows: &EDGES,
            untimed: self.untimed,
            kinds: kinds.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::Mode;

    use super::{super::super::fixture, *};
    use crate::explain::fixture::summary;

    /// The cells are the same sends as the distributions of the summary.
    #[test]
    fn every_time_of_the_summary_is_in_a_cell() {
        let records = fixture::records(Mode::Enforce);
        let info = fixture::info(Mode::Enforce);
        let mut heat = Heat::default();
        for record in &records {
            heat.send(record, info.start_ns);
        }
        let summary = summary(&records);
        let map = heat.map();
        assert_eq!(map.untimed, summary.total.no_start);
        let natural = summary.natural_baseline.count() + summary.natural_delayed.count();
        let counts = [summary.asked.count(), summary.delivered.count(), natural];
        for (kind, count) in map.kinds.iter().zip(counts) {
            let cells: u64 = kind.cells.iter().map(|cell| cell.2).sum();
            assert_eq!(cells, count, "{}", kind.name);
            assert!(kind.cells.iter().all(|cell| cell.0 < map.columns));
        }
    }
}
