//! Time in columns that get wider as a run gets longer, so that any run has as
//! many columns as a picture has room for.

/// Columns at most; at least half of them are used once the run is longer than
/// that many of the narrowest.
const COLUMNS: usize = 120;
/// Width of the narrowest columns, in nanoseconds.
const NARROWEST_NS: u64 = 1_000_000;

/// What can be summed up when columns are joined.
pub trait Sum: Default {
    /// Adds another one.
    fn add(&mut self, other: &Self);
}

/// Something for each column of time since the start of a run.
#[derive(Debug)]
pub struct Columns<T> {
    width_ns: u64,
    all: Vec<T>,
}

impl<T> Default for Columns<T> {
    fn default() -> Self {
        Self {
            width_ns: NARROWEST_NS,
            all: Vec::new(),
        }
    }
}

impl<T: Sum> Columns<T> {
    /// The column of this time since the start, in nanoseconds.
    pub fn at(&mut self, time_ns: u64) -> &mut T {
        while time_ns / self.width_ns >= COLUMNS as u64 {
            self.widen();
        }
        let column = (time_ns / self.width_ns) as usize;
        if column >= self.all.len() {
            self.all.resize_with(column + 1, T::default);
        }
        &mut self.all[column]
    }

    /// Each column that this time reaches into, with how much of it is in there,
    /// in nanoseconds.
    pub fn over(&mut self, start_ns: u64, end_ns: u64, mut add: impl FnMut(&mut T, u64)) {
        if start_ns >= end_ns {
            return;
        }
        self.at(end_ns - 1);
        let width_ns = self.width_ns;
        let mut from = start_ns;
        while from < end_ns {
            let next = end_ns.min((from / width_ns + 1).saturating_mul(width_ns));
            add(self.at(from), next - from);
            from = next;
        }
    }

    fn widen(&mut self) {
        // Wide enough for any time: 120 columns of 2^57 ns are more than 2^63 ns.
        self.width_ns = self.width_ns.saturating_mul(2);
        let all = std::mem::take(&mut self.all);
        let mut all = all.into_iter();
        while let Some(mut joined) = all.next() {
            if let Some(second) = all.next() {
                joined.add(&second);
            }
            self.all.push(joined);
        }
    }

    /// How wide each column is, in nanoseconds.
    pub fn width_ns(&self) -> u64 {
        self.width_ns
    }

    /// All columns, in the order of time.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Sum for u64 {
        fn add(&mut self, other: &Self) {
            *self += other;
        }
    }

    #[test]
    fn a_minute_has_enough_columns() {
        let mut columns = Columns::<u64>::default();
        *columns.at(60_000_000_000) += 1;
        let count = columns.iter().count();
        assert!((COLUMNS / 2..=COLUMNS).contains(&count), "{count}");
    }

    #[test]
    fn the_latest_time_there_is_has_a_column() {
        let mut columns = Columns::<u64>::default();
        *columns.at(u64::MAX) += 1;
        assert!(columns.iter().count() <= COLUMNS);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_joining(times in prop::collection::vec(0..1u64 << 40, 0..100)) {
            let mut columns = Columns::<u64>::default();
            for time in &times {
                *columns.at(*time) += 1;
            }
            prop_assert_eq!(columns.iter().sum::<u64>(), times.len() as u64);
            prop_assert!(columns.iter().count() <= COLUMNS);
        }

        #[test]
        fn a_stretch_is_as_long_as_its_parts(
            spans in prop::collection::vec((0..1u64 << 40, 0..1u64 << 36), 0..30),
        ) {
            let mut columns = Columns::<u64>::default();
            let mut whole = 0;
            for (start, length) in spans {
                columns.over(start, start + length, |column, ns| *column += ns);
                whole += length;
            }
            prop_assert_eq!(columns.iter().sum::<u64>(), whole);
        }
    }
}
