//! Reads that wait for their answer, in the order in which they are due.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

/// A read that waits; when it is due stands in the heap alone.
struct Waiting {
    /// The thread.
    tid: u32,
    /// A signal came for it.
    interrupted: bool,
}

/// All of them.
#[derive(Default)]
pub struct Queue {
    waiting: HashMap<u64, Waiting>,
    /// By time; one that was answered early stays until its time has come.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    interrupted: usize,
}

impl Queue {
    /// One more.
    pub fn push(&mut self, unique: u64, tid: u32, answer_ns: u64) {
        let waiting = Waiting {
            tid,
            interrupted: false,
        };
        self.waiting.insert(unique, waiting);
        self.due.push(Reverse((answer_ns, unique)));
    }

    /// Takes one whose time has come.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<u64> {
        while let Some(&Reverse((at, unique))) = self.due.peek() {
            let is_there = self.waiting.contains_key(&unique);
            if is_there && at > now_ns {
                return None;
            }
            self.due.pop();
            if is_there {
                self.remove(unique);
                return Some(unique);
            }
        }
        None
    }

    /// When the next is due; drops what has been answered early.
    pub fn next_due(&mut self) -> Option<u64> {
        while let Some(&Reverse((at, unique))) = self.due.peek() {
            if self.waiting.contains_key(&unique) {
                return Some(at);
            }
            self.due.pop();
        }
        None
    }

    /// A signal came for a read. Returns the thread, if it still waits.
    pub fn interrupt(&mut self, unique: u64) -> Option<u32> {
        let waiting = self.waiting.get_mut(&unique)?;
        if !waiting.interrupted {
            waiting.interrupted = true;
            self.interrupted += 1;
        }
        Some(waiting.tid)
    }

    /// Whether any interrupted read waits.
    pub fn has_interrupted(&self) -> bool {
        self.interrupted > 0
    }

    /// The interrupted reads and their threads.
    pub fn interrupted(&self) -> impl Iterator<Item = (u64, u32)> {
        self.waiting
            .iter()
            .filter(|(_, waiting)| waiting.interrupted)
            .map(|(unique, waiting)| (*unique, waiting.tid))
    }

    /// Takes one out early.
    pub fn remove(&mut self, unique: u64) {
        if let Some(waiting) = self.waiting.remove(&unique) {
            self.interrupted -= usize::from(waiting.interrupted);
        }
    }

    /// Takes all out.
    pub fn take_all(&mut self) -> Vec<u64> {
        self.due.clear();
        self.interrupted = 0;
        self.waiting.drain().map(|(unique, _)| unique).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_come_in_time_order() {
        let mut queue = Queue::default();
        queue.push(1, 10, 300);
        queue.push(2, 20, 100);
        queue.push(3, 30, 200);
        queue.remove(3);
        assert_eq!(queue.next_due(), Some(100));
        assert_eq!(queue.pop_due(99), None);
        assert_eq!(queue.pop_due(1000), Some(2));
        assert_eq!(queue.next_due(), Some(300));
        assert_eq!(queue.pop_due(1000), Some(1));
        assert_eq!((queue.pop_due(1000), queue.len()), (None, 0));
    }

    #[test]
    fn interrupted_reads_are_counted_once() {
        let mut queue = Queue::default();
        queue.push(1, 10, 300);
        assert_eq!(queue.interrupt(1), Some(10));
        assert_eq!(queue.interrupt(1), Some(10));
        assert_eq!(queue.interrupt(2), None);
        assert_eq!(queue.interrupted().collect::<Vec<_>>(), [(1, 10)]);
        queue.remove(1);
        assert!(!queue.has_interrupted());
    }

    proptest! {
        /// Every read is answered exactly once, none before its time.
        #[test]
        fn all_are_answered_once(times in proptest::collection::vec(0u64..1000, 1..200)) {
            let mut queue = Queue::default();
            for (unique, at) in times.iter().enumerate() {
                queue.push(unique as u64, 0, *at);
            }
            let mut answered = vec![0; times.len()];
            for now in 0..1000 {
                while let Some(unique) = queue.pop_due(now) {
                    prop_assert_eq!(times[unique as usize], now);
                    answered[unique as usize] += 1;
                }
            }
            prop_assert!(answered.iter().all(|count| *count == 1));
        }
    }
}
