//! Those of many things that took longest, in bounded memory.

/// How many are kept.
const KEPT: usize = 16_384;

/// Keeps the longest.
#[derive(Debug)]
pub struct Longest<T> {
    all: Vec<(u64, T)>,
    /// Only longer ones are kept, in nanoseconds.
    least_ns: u64,
    left_out: u64,
}

impl<T> Default for Longest<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            least_ns: 0,
            left_out: 0,
        }
    }
}

impl<T> Longest<T> {
    /// One more, if it took long enough; it is made only then.
    pub fn add(&mut self, length_ns: u64, one: impl FnOnce() -> T) {
        if length_ns <= self.least_ns {
            self.left_out += 1;
            return;
        }
        if self.all.len() == KEPT {
            self.all
                .select_nth_unstable_by_key(KEPT / 2, |(length, _)| std::cmp::Reverse(*length));
            self.least_ns = self.all[KEPT / 2].0;
            self.left_out += (KEPT - KEPT / 2) as u64;
            self.all.truncate(KEPT / 2);
            if length_ns <= self.least_ns {
                self.left_out += 1;
                return;
            }
        }
        self.all.push((length_ns, one()));
    }

    /// Those that were kept, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().map(|(_, one)| one)
    }

    /// All that are longer than this are kept, in nanoseconds.
    pub fn least_ns(&self) -> u64 {
        self.least_ns
    }

    /// How many were not kept.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_are_kept_and_the_rest_is_counted() {
        let mut longest = Longest::default();
        let all = 3 * KEPT as u64;
        for n in 0..all {
            // All lengths from 1 on, in some order.
            let length = n * 7919 % all + 1;
            longest.add(length, || length);
        }
        let least = longest.least_ns();
        let mut kept: Vec<u64> = longest.iter().copied().collect();
        kept.sort_unstable();
        let expected: Vec<u64> = (least + 1..=all).collect();
        assert_eq!(kept[kept.len() - expected.len()..], expected);
        assert_eq!(kept.len() as u64 + longest.left_out(), all);
        assert!(kept.len() >= KEPT / 2);
    }

    #[test]
    fn things_of_one_length_are_not_all_forgotten() {
        let mut longest = Longest::default();
        for _ in 0..2 * KEPT {
            longest.add(5, || ());
        }
        assert_eq!(longest.iter().count(), KEPT / 2);
        assert_eq!(longest.left_out(), (2 * KEPT - KEPT / 2) as u64);
    }
}
