//! A few things at a time.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

/// Does `work` for each item, `workers` at a time; the results are in the order of the items.
pub fn map<I: Sync, R: Send>(items: &[I], workers: usize, work: impl Fn(&I) -> R + Sync) -> Vec<R> {
    let waiting = Mutex::new(items.iter().enumerate());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let next = lock(&waiting).next();
                    let Some((index, item)) = next else { break };
                    let result = work(item);
                    lock(&results).push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let sleep = |ms: &u64| {
            thread::sleep(Duration::from_millis(*ms));
            *ms
        };
        assert_eq!(map(&[30, 1, 20, 2], 2, sleep), [30, 1, 20, 2]);
        assert_eq!(map(&[], 2, sleep), [0; 0]);
    }

    #[test]
    fn so_many_at_a_time_and_no_more() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Two must meet, or this never ends.
        let barrier = Barrier::new(2);
        map(&[(); 6], 2, |()| {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            barrier.wait();
            running.fetch_sub(1, Ordering::SeqCst);
        });
        assert_eq!(most.into_inner(), 2);
    }
}
