//! Work split over threads: pieces of a fixed size, so that results never depend on the number of threads.
//!
//! The pool is rayon's: whoever [installs](rayon::ThreadPool::install) one decides how many threads there are. The
//! loop itself is compiled once and not once for each closure; a build with hundreds of such loops takes half the time.

use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

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

/// Calls `work(shared, i)` for every `i` below `n`, on all threads of the pool, then `between(shared)`, and all of it again
/// for as long as `between` says so.
///
/// For rounds of microseconds: between them threads wait awake. Each begins with its share, every so many-th piece, the
/// same in all rounds, so that pieces stay near their data; then it helps the others. The largest pieces should be first.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// let sum = AtomicUsize::new(0);
/// let mut round = 1;
/// ransnn::parallel::rounds(
///     10,
///     &mut round,
///     |round, i| {
///         sum.fetch_add(round * i, Ordering::Relaxed);
///     },
///     |round| {
///         *round += 1;
///         *round <= 3
///     },
/// );
/// assert_eq!(sum.into_inner(), 45 * (1 + 2 + 3));
/// ```
pub fn rounds<T: Send + Sync>(
    n: usize,
    shared: &mut T,
    work: impl Fn(&T, usize) + Sync,
    mut between: impl FnMut(&mut T) -> bool + Send,
) {
    let threads = rayon::current_num_threads().min(n);
    if threads <= 1 {
        loop {
            (0..n).for_each(|i| work(shared, i));
            if !between(shared) {
                return;
            }
        }
    }
    let shared = RwLock::new(shared);
    let rounds = Rounds::new(n);
    let work = |i: usize| work(&shared.read().unwrap_or_else(PoisonError::into_inner), i);
    rayon::scope(|scope| {
        let over = Over(&rounds);
        for thread in 1..threads {
            let (rounds, work) = (&rounds, &work);
            scope.spawn(move |_| rounds.help(thread, threads, work));
        }
        for round in 1.. {
            rounds.current.store(round, Ordering::Release);
            rounds.take(round, 0, threads, &work);
            wait(|| rounds.done.load(Ordering::Acquire) == round * n);
            let failed = rounds.failed.load(Ordering::Acquire);
            if failed || !between(&mut shared.write().unwrap_or_else(PoisonError::into_inner)) {
                break;
            }
        }
        drop(over);
    });
}

/// Pieces of work that come round after round. A thread that comes late finds nothing to do.
struct Rounds {
    /// The round that goes on, from 1; [`OVER`] when there will be none.
    current: AtomicUsize,
    /// Of each piece: the last round in which somebody took it.
    taken: Vec<AtomicUsize>,
    /// Pieces done, in all rounds.
    done: AtomicUsize,
    /// Whether a piece panicked.
    failed: AtomicBool,
}

const OVER: usize = usize::MAX;

impl Rounds {
    fn new(n: usize) -> Self {
        let taken = (0..n).map(|_| AtomicUsize::new(0)).collect();
        Self {
            current: AtomicUsize::new(0),
            taken,
            done: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        }
    }

    /// Works on the share of a thread, then on whatever is left.
    fn take(&self, round: usize, thread: usize, threads: usize, work: &impl Fn(usize)) {
        let n = self.taken.len();
        for i in (thread..n).step_by(threads).chain(0..n) {
            let taken = self.taken[i].compare_exchange(round - 1, round, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                let _done = Done(self);
                work(i);
            }
        }
    }

    /// Takes part in all rounds.
    fn help(&self, thread: usize, threads: usize, work: &impl Fn(usize)) {
        let mut last = 0;
        loop {
            wait(|| self.current.load(Ordering::Acquire) != last);
            last = self.current.load(Ordering::Acquire);
            if last == OVER {
                return;
            }
            self.take(last, thread, threads, work);
        }
    }
}

/// Counts a piece as done, even if it panics: nobody waits in vain.
struct Done<'a>(&'a Rounds);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::Release);
        }
        self.0.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// Lets the others go, even if this thread panics.
struct Over<'a>(&'a Rounds);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.current.store(OVER, Ordering::Release);
    }
}

/// Waits awake; after some microseconds other threads of the machine may have the core.
fn wait(until: impl Fn() -> bool) {
    for turn in 0u32.. {
        if until() {
            return;
        }
        if turn < 200 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
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
    fn rounds_come_one_after_the_other() {
        for (threads, n) in [(1, 3), (2, 1), (2, 2), (3, 7), (4, 0)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            let mut round = 0;
            let work = |round: &usize, i: usize| {
                assert_eq!(counts[i].fetch_add(1, Ordering::Relaxed), *round);
            };
            let between = |round: &mut usize| {
                *round += 1;
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == *round));
                *round < 2000
            };
            pool.install(|| rounds(n, &mut round, work, between));
            assert_eq!(round, 2000);
        }
    }

    #[test]
    fn a_panic_in_a_round_arrives() {
        for who in 0..4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
            let run = || {
                let work = |round: &usize, i: usize| assert!((*round, i) != (3, who));
                let between = |round: &mut usize| {
                    *round += 1;
                    true
                };
                pool.install(|| rounds(4, &mut 0, work, between));
            };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        }
    }

    #[test]
    fn a_panic_arrives() {
        let panics = std::panic::catch_unwind(|| for_each(100, |i| assert!(i != 57)));
        assert!(panics.is_err());
    }
}
