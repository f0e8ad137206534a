//! Tables that do not grow without bounds.

use std::collections::HashMap;

/// How much one entry is worth keeping.
pub trait Kept {
    /// Of two entries the one with less is given up first.
    fn worth(&self) -> (u64, u64);
}

/// Entries by a number: an address, a goroutine. When it is full, the quarter
/// that is worth least is given up at once, so that looking for it costs next
/// to nothing per entry.
#[derive(Debug)]
pub struct Table<V> {
    entries: HashMap<u64, V>,
    order: Vec<((u64, u64), u64)>,
    limit: usize,
    given_up: u64,
}

impl<V: Kept> Table<V> {
    /// For at most `limit` entries, at least four.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::with_capacity(limit),
            order: Vec::with_capacity(limit),
            limit,
            given_up: 0,
        }
    }

    /// The entry of this number, made if it is not there. Those that have to
    /// make room go to `retire`.
    pub fn entry(
        &mut self,
        number: u64,
        make: impl FnOnce() -> V,
        retire: impl FnMut(u64, V),
    ) -> &mut V {
        if self.entries.len() >= self.limit && !self.entries.contains_key(&number) {
            self.make_room(retire);
        }
        self.entries.entry(number).or_insert_with(make)
    }

    fn make_room(&mut self, mut retire: impl FnMut(u64, V)) {
        self.order.clear();
        let entries = self.entries.iter();
        self.order
            .extend(entries.map(|(number, entry)| (entry.worth(), *number)));
        let many = self.limit / 4;
        self.order.select_nth_unstable(many);
        // The order of a hash table is another one each time.
        self.order[..many].sort_unstable();
        for (_, number) in &self.order[..many] {
            if let Some(entry) = self.entries.remove(number) {
                self.given_up += 1;
                retire(*number, entry);
            }
        }
    }

    /// The entry of this number.
    pub fn get(&self, number: u64) -> Option<&V> {
        self.entries.get(&number)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        self.entries.get_mut(&number)
    }

    /// Takes it out.
    pub fn remove(&mut self, number: u64) -> Option<V> {
        self.entries.remove(&number)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.entries.iter().map(|(number, entry)| (*number, entry))
    }

    /// All, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.entries
            .iter_mut()
            .map(|(number, entry)| (*number, entry))
    }

    /// How many were given up for others.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

/// The first few of many, and all others together.
#[derive(Clone, Debug)]
pub struct Few<K, V> {
    entries: Vec<(K, V)>,
    limit: usize,
    /// What the others have together.
    pub others: V,
}

impl<K: PartialEq + Copy, V: Default> Few<K, V> {
    /// For at most `limit` of them.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: Vec::with_capacity(limit),
            limit,
            others: V::default(),
        }
    }

    /// That of this key, or what the others have together.
    pub fn of(&mut self, key: K) -> &mut V {
        match self.entries.iter().position(|(known, _)| *known == key) {
            Some(index) => &mut self.entries[index].1,
            None if self.entries.len() < self.limit => {
                self.entries.push((key, V::default()));
                &mut self.entries.last_mut().expect("one was pushed").1
            }
            None => &mut self.others,
        }
    }

    /// Those that are kept apart.
    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.entries.iter()
    }

    /// How many are kept apart.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept for u64 {
        fn worth(&self) -> (u64, u64) {
            (0, *self)
        }
    }

    #[test]
    fn a_full_table_gives_up_what_is_worth_least() {
        let mut table = Table::new(8);
        let mut retired = Vec::new();
        for number in 0..9_u64 {
            table.entry(number, || number * 10, |number, _| retired.push(number));
        }
        retired.sort_unstable();
        assert_eq!(retired, [0, 1]);
        assert_eq!((table.iter().count(), table.given_up()), (7, 2));
        assert_eq!(table.get(8), Some(&80));
    }

    #[test]
    fn others_are_counted_together() {
        let mut few = Few::<u8, u64>::new(2);
        for key in [1, 2, 3, 4, 1] {
            *few.of(key) += 1;
        }
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [(1, 2), (2, 1)]);
        assert_eq!(few.others, 2);
    }
}
