//! Work split over threads: pieces of a fixed size, so that results never depend on the number of threads.
//!
//! The pool is rayon's: whoever [installs](rayon::ThreadPool::install) one decides how many threads there are. The
//! loop itself is compiled once and not once for each closure; a build with hundreds of such loops takes half the time.

use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Calls `work(i)` for every `i` below `n`, in any order, on all threads of the pool.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// let sum = AtomicUsize::new(0);
/// ransnn::parallel::for_each(10, |i| {
///     sum.fetch_add(i, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 45);
/// ```
pub fn for_each(n: usize, work: impl Fn(usize) + Sync) {
    match n {
        0 => {}
        1 => work(0),
        _ if rayon::current_num_threads() == 1 => (0..n).for_each(work),
        _ => indices(n, &work),
    }
}

fn indices(n: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..n).into_par_iter().with_max_len(1).for_each(work);
}

/// Calls `work(i, piece)` for the `i`-th consecutive piece of `size` elements; the last one may be shorter.
///
/// ```
/// let mut squares = [0; 7];
/// ransnn::parallel::chunks_mut(&mut squares, 3, |i, piece| {
///     piece.iter_mut().enumerate().for_each(|(j, x)| *x = (i * 3 + j) * (i * 3 + j));
/// });
/// assert_eq!(squares, [0, 1, 4, 9, 16, 25, 36]);
/// ```
pub fn chunks_mut<T: Send>(data: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    owned(data.chunks_mut(size.max(1)).collect(), work);
}

/// Calls `work(i, item)` for each item, which it then owns.
///
/// For items that are not pieces of one slice: zip mutable chunks of several slices, collect, and give them here.
///
/// ```
/// let (mut a, mut b) = ([0; 4], [0; 2]);
/// let pieces = a.chunks_mut(2).zip(&mut b).collect();
/// ransnn::parallel::owned(pieces, |i, (a, b): (&mut [usize], &mut usize)| {
///     a.fill(i);
///     *b = i;
/// });
/// assert_eq!((a, b), ([0, 0, 1, 1], [0, 1]));
/// ```
pub fn owned<T: Send>(items: Vec<T>, work: impl Fn(usize, T) + Sync) {
    hand_out(items, &work);
}

fn hand_out<T: Send>(items: Vec<T>, work: &(dyn Fn(usize, T) + Sync)) {
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    for_each(items.len(), |i| {
        if let Some(item) = items[i].lock().unwrap_or_else(PoisonError::into_inner).take() {
            work(i, item);
        }
    });
}

/// `work(i)` for every `i` below `n`, in order.
///
/// ```
/// assert_eq!(ransnn::parallel::map(4, |i| i * i), [0, 1, 4, 9]);
/// ```
pub fn map<R: Send>(n: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let mut results: Vec<Option<R>> = std::iter::repeat_with(|| None).take(n).collect();
    owned(results.iter_mut().collect(), |i, result| *result = Some(work(i)));
    // Every index was visited: nothing is lost here.
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_visited_once() {
        for (n, size) in [(0, 3), (1, 3), (3, 3), (10, 3), (10, 0), (1000, 7)] {
            let mut data = vec![0usize; n];
            chunks_mut(&mut data, size, |i, piece| {
                piece.iter_mut().enumerate().for_each(|(j, x)| *x += i * size.max(1) + j + 1);
            });
            assert!(data.iter().enumerate().all(|(i, &x)| x == i + 1), "{n} in pieces of {size}");
        }
        assert_eq!(map(0, |i| i), Vec::<usize>::new());
    }

    #[test]
    fn a_panic_arrives() {
        let panics = std::panic::catch_unwind(|| for_each(100, |i| assert!(i != 57)));
        assert!(panics.is_err());
    }
}
