//! Who may take a hold next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Error, Result};

/// For each processor. With fewer, the journal writes less at once than it could; with more, the
/// calls of a burst come all together between two frames of the streams that run.
const TURNS: usize = 64;

/// Lets so many calls take their holds at a time; the others wait in the order in which they came.
///
/// Holds are taken together, and so calls go on together: after a thousand, each stream that runs
/// would wait for a thousand calls to be made before its next frame.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Semaphore,
    waiting: AtomicUsize,
    most: usize,
}

/// Counts a call as waiting, as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl Turns {
    /// Of those that find no turn free so many may wait; more are refused as [`Error::Busy`].
    pub(crate) fn new(most: usize) -> Self {
        let processors = available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(processors * TURNS, most)
    }

    fn with(turns: usize, most: usize) -> Self {
        Self { free: Semaphore::new(turns), waiting: AtomicUsize::new(0), most }
    }

    /// A turn, until it is dropped.
    pub(crate) async fn next(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(turn) = self.free.try_acquire() {
            return Ok(turn);
        }
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most {
            return Err(Error::Busy);
        }
        let turn = self.free.acquire().await.map_err(|_closed| Error::Busy);
        drop(waiting);
        turn
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_no_more_wait_than_may() {
        let turns = Arc::new(Turns::with(1, 2));
        let first = turns.next().await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|number| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move {
                    let _turn = turns.next().await.unwrap();
                    number
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(matches!(turns.next().await, Err(Error::Busy)));
        drop(first);
        for (number, waited) in waiting.into_iter().enumerate() {
            assert_eq!(waited.await.unwrap(), number);
        }
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
        assert!(turns.next().await.is_ok());
    }

    #[tokio::test]
    async fn who_leaves_waits_no_more() {
        let turns = Turns::with(1, 1);
        let first = turns.next().await.unwrap();
        let left = tokio::time::timeout(std::time::Duration::from_millis(1), turns.next()).await;
        assert!(left.is_err());
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
        drop(first);
        assert!(turns.next().await.is_ok());
    }
}
