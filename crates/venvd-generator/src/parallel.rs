//! Work on many things in a few threads. Generators delay the boot: what a thousand units take is worth dividing.

use std::thread;

/// How many items are worth a thread: that costs about as much as they do.
const WORTH_A_THREAD: usize = 100;

/// As many threads as there may be at most; the other generators want processors too.
const MOST: usize = 4;

/// Applies `work` to one part of the items after the other, and returns what came of each, in order. All at once where
/// there are many and processors to do it.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = match items.len() / WORTH_A_THREAD {
        0 | 1 => 1,
        // Asked for only where it matters: it takes some looks at files.
        worth => worth
            .min(MOST)
            .min(thread::available_parallelism().map_or(1, usize::from)),
    };
    if threads == 1 {
        return vec![work(items)];
    }
    let mut parts = items.chunks(items.len().div_ceil(threads));
    let first = parts.next().unwrap_or_default();
    thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = parts
            .map(|part| (part, thread::Builder::new().spawn_scoped(scope, move || work(part))))
            .collect();
        let mut results = vec![work(first)];
        for (part, other) in others {
            results.push(match other {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // No more threads to be had: slower is all that this is.
                Err(_) => work(part),
            });
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_once_and_in_order() {
        for count in [0, 1, 199, 200, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let parts = map(&items, <[usize]>::to_vec);
            assert!(!parts.is_empty() && parts.len() <= MOST);
            assert_eq!(parts.concat(), items);
        }
    }
}
