//! Work on many things in a few threads. Generators delay the boot: what a thousand units take is worth dividing.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// As many threads as there may be at most; the other generators want processors too.
const MOST: usize = 4;

/// How many batches are worth a thread.
const WORTH_A_THREAD: usize = 4;

/// Applies `work` to one batch of the items after the other, and returns what came of each, in order. Several at once
/// where there are many and processors to do it.
///
/// A batch is to take about half a millisecond: some take what a thread costs, and all threads are done at about the same
/// time, whatever else the processors have to do.
pub fn map<T: Sync, R: Send>(items: &[T], batch: usize, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let batches: Vec<&[T]> = items.chunks(batch.max(1)).collect();
    let threads = match batches.len() / WORTH_A_THREAD {
        0 | 1 => 1,
        worth => worth.min(MOST).min(processors()),
    };
    let next = AtomicUsize::new(0);
    let work_on = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match batches.get(index) {
                Some(batch) => done.push((index, work(batch))),
                None => return done,
            }
        }
    };
    let mut done = thread::scope(|scope| {
        // Where no more threads are to be had, those that there are do it all.
        let others: Vec<_> = (1..threads)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, work_on).ok())
            .collect();
        let mut done = work_on();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Asked for once, and only where it matters: it takes some looks at files.
fn processors() -> usize {
    static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));
    *PROCESSORS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_once_and_in_order() {
        for count in [0, 1, 199, 200, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let parts = map(&items, 25, <[usize]>::to_vec);
            assert!(parts.iter().all(|part| part.len() <= 25));
            assert_eq!(parts.concat(), items);
        }
    }
}
