//! Fits side by side, one a core.
//!
//! Each job runs within a thread pool of a single thread, so what a library does in parallel
//! stays on that thread: the cores are never oversubscribed, a perceptron does not depend on
//! their number, and no job is ever begun in the middle of another, as rayon's work stealing
//! would (a library that holds a lock meanwhile could then wait for itself).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::Matrix;

/// Memory that the copies of a matrix may take which jobs make at the same time, in bytes.
const COPIES: usize = 4 << 30;

/// How many jobs that each copy most of `x` may run at once.
pub fn at_once(x: &Matrix) -> usize {
    (COPIES / size_of_val(x.values()).max(1)).clamp(1, rayon::current_num_threads())
}

/// Does `work` on every item, up to `at_once` at a time, and gives the results in the order
/// of the items. `done` hears, on the calling thread, which item was finished, as each is.
pub fn side_by_side<T: Sync, R: Send>(
    at_once: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    done: &mut dyn FnMut(usize, &R),
) -> Vec<R> {
    let workers = at_once.min(items.len());
    let mut results: Vec<(usize, R)> = Vec::with_capacity(items.len());
    if workers <= 1 {
        for (index, item) in items.iter().enumerate() {
            let result = work(item);
            done(index, &result);
            results.push((index, result));
        }
        return results.into_iter().map(|(_, result)| result).collect();
    }
    let (next, work) = (AtomicUsize::new(0), &work);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let jobs = || loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    // The receiver outlives every sender.
                    let _ = sender.send((index, work(item)));
                };
                match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
                    Ok(pool) => pool.install(jobs),
                    // No more threads are to be had: it goes on without a pool of its own.
                    Err(_) => jobs(),
                }
            });
        }
        drop(sender);
        for (index, result) in receiver {
            done(index, &result);
            results.push((index, result));
        }
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn results_are_in_order_and_each_is_told_once() {
        let items: Vec<usize> = (0..200).collect();
        for at_once in [0, 1, 4, 1_000] {
            let mut told = Vec::new();
            let work = |&item: &usize| (0..=item).into_par_iter().sum::<usize>();
            let results = side_by_side(at_once, &items, work, &mut |index, result| told.push((index, *result)));
            assert_eq!(results, items.iter().map(|i| i * (i + 1) / 2).collect::<Vec<_>>());
            told.sort_unstable();
            assert_eq!(told, results.into_iter().enumerate().collect::<Vec<_>>());
        }
        assert!(side_by_side(4, &[] as &[u8], |_| 0, &mut |_, _| {}).is_empty());
    }

    #[test]
    fn a_job_has_one_thread() {
        let threads = side_by_side(3, &[(); 9], |()| rayon::current_num_threads(), &mut |_, _| {});
        assert_eq!(threads, [1; 9]);
        assert!((1..=rayon::current_num_threads()).contains(&at_once(&Matrix::new(3))));
    }
}
