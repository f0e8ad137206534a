//! The kernel's counters, summed over all CPUs.

use injector_ebpf::{COUNTERS, Counter, Stats};

/// What the names of guard counters begin with.
const GUARD: &str = "guard_";

/// Counters that stand for something that was not recorded.
const LOSSES: &[Counter] = &[
    Counter::RecordsDropped,
    Counter::LifecycleDropped,
    Counter::ReturnsMissed,
    Counter::InFlightFull,
    Counter::ThreadsFull,
    Counter::TargetsFull,
];

/// One value per [`Counter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    values: [u64; COUNTERS.len()],
}

impl Totals {
    /// Adds the counters of one CPU.
    pub fn add(&mut self, stats: &Stats) {
        for (value, more) in self.values.iter_mut().zip(stats.values) {
            *value = value.saturating_add(more);
        }
    }

    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// What a counter counts.
    pub fn meaning(counter: Counter) -> &'static str {
        sentence(COUNTERS[counter as usize].2)
    }

    /// Every counter as (name, meaning, value), in the order of [`COUNTERS`].
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        COUNTERS
            .iter()
            .zip(self.values)
            .map(|((_, name, meaning), value)| (*name, sentence(meaning), value))
    }

    /// What each guard suppressed, as (guard, meaning, sends), without zeros.
    pub fn guards(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.rows().filter_map(|(name, meaning, value)| {
            let guard = name.strip_prefix(GUARD)?;
            (value > 0).then_some((guard, meaning, value))
        })
    }

    /// What was lost, as (name, meaning, number), without zeros.
    pub fn losses(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        LOSSES
            .iter()
            .map(|counter| {
                let name = COUNTERS[*counter as usize].1;
                (name, Self::meaning(*counter), self.get(*counter))
            })
            .filter(|(_, _, value)| *value > 0)
    }
}

/// The text of the ABI's table without what its headings say again.
fn sentence(meaning: &'static str) -> &'static str {
    let meaning = meaning.trim();
    meaning.strip_prefix("Suppressed: ").unwrap_or(meaning)
}

impl<'a> FromIterator<(&'a str, u64)> for Totals {
    /// Counters by name; those that this version does not have are left out.
    fn from_iter<I: IntoIterator<Item = (&'a str, u64)>>(all: I) -> Self {
        let mut totals = Self::default();
        for (name, value) in all {
            if let Some(index) = COUNTERS.iter().position(|(_, known, _)| *known == name) {
                totals.values[index] = value;
            }
        }
        totals
    }
}

impl<'a> FromIterator<&'a Stats> for Totals {
    fn from_iter<I: IntoIterator<Item = &'a Stats>>(all: I) -> Self {
        let mut totals = Self::default();
        for stats in all {
            totals.add(stats);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::Guard;

    use super::*;

    #[test]
    fn cpus_are_summed() {
        let mut first = Stats {
            values: [1; COUNTERS.len()],
        };
        first.values[Counter::Seen as usize] = u64::MAX;
        let second = Stats {
            values: [2; COUNTERS.len()],
        };
        let totals: Totals = [&first, &second].into_iter().collect();
        assert_eq!(totals.get(Counter::Matched), 3);
        assert_eq!(totals.get(Counter::Seen), u64::MAX);
        assert_eq!(totals.rows().count(), COUNTERS.len());
    }

    #[test]
    fn the_table_is_in_the_order_of_its_numbers() {
        for (index, (counter, _, _)) in COUNTERS.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }

    /// Guards are found by the beginning of their counter's name.
    #[test]
    fn every_guard_has_its_counter() {
        let all = Stats {
            values: [1; COUNTERS.len()],
        };
        let totals: Totals = std::iter::once(&all).collect();
        let counted: Vec<_> = totals.guards().map(|(name, ..)| name).collect();
        let guards: Vec<_> = Guard::ALL
            .iter()
            .filter(|(guard, ..)| *guard != Guard::None)
            .map(|(_, name, _)| *name)
            .collect();
        assert_eq!(counted, guards);
    }

    #[test]
    fn zeros_are_no_losses() {
        assert_eq!(Totals::default().guards().count(), 0);
        assert_eq!(Totals::default().losses().count(), 0);
    }
}
