//! The same work on many things by a few threads, with progress told on the calling thread.
//!
//! Results come in the order of the things. After the first error nothing new is begun.

use crate::error::Error;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// How many threads have a processor of their own.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Applies `work` to each of `things` with at most `threads` threads; `work` tells amounts done through its second argument,
/// and `told` is called with each.
pub(crate) fn map<T: Sync, R: Send>(things: &[T], threads: usize, work: impl Fn(&T, &dyn Fn(u64)) -> Result<R, Error> + Sync, mut told: impl FnMut(u64)) -> Result<Vec<R>, Error> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, Result<R, Error>)>> = Mutex::new(Vec::new());
    // Joined by hand: a scope alone does not wait for what a thread still gives back at its very end.
    let joined = thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let work_through = || {
            let send = send.clone();
            scope.spawn(|| {
                let send = send;
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(thing) = things.get(index) else { break };
                    let result = work(thing, &|amount| send.send(amount).unwrap_or(()));
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, result));
                    }
                }
            })
        };
        let threads: Vec<_> = (0..threads.min(things.len())).map(|_| work_through()).collect();
        drop(send);
        receive.into_iter().for_each(&mut told);
        threads.into_iter().try_for_each(thread::ScopedJoinHandle::join)
    });
    const EARLY: Error = Error::Internal("a thread ended early");
    let (mut results, ()) = (results.into_inner().map_err(|_| EARLY)?, joined.map_err(|_| EARLY)?);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_amounts_are_told() {
        let mut sum = 0;
        let doubled = map(&[1u64, 2, 3, 4, 5], 3, |n, tell| { tell(*n); Ok(n * 2) }, |amount| sum += amount);
        assert_eq!((doubled.unwrap(), sum), (vec![2, 4, 6, 8, 10], 15));
        let failed = map(&[1u64, 2], 1, |_, _| Err::<(), _>(Error::Internal("no")), |_| ());
        assert!(matches!(failed, Err(Error::Internal("no"))));
    }
}
