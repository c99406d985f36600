//! Requests that wait for the journal's thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::JournalError;

/// After a reminder the reader wakes once more by itself, after this time: whoever wants to remind it of
/// something later need not wake it (docs/adr/0019).
const GLANCE: Duration = Duration::from_millis(4);

/// A bounded queue with one reader, who can be reminded of something at a later time.
#[derive(Debug)]
pub(super) struct Queue<T> {
    inside: Mutex<Inside<T>>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct Inside<T> {
    requests: VecDeque<T>,
    /// When the reader is to be reminded.
    reminder: Option<Instant>,
    /// When it wakes once more after a reminder.
    glance: Option<Instant>,
    /// When it wakes by itself, if it sleeps.
    wakes_at: Option<Instant>,
    closed: bool,
}

/// Why the reader wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There are requests.
    Requests,
    /// The time has come that it was to be reminded of.
    Reminder,
    /// There are none, and will be none.
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let inside = Inside {
            requests: VecDeque::new(),
            reminder: None,
            glance: None,
            wakes_at: None,
            closed: false,
        };
        Self { inside: Mutex::new(inside), changed: Condvar::new(), capacity: capacity.max(1) }
    }

    /// Adds a request; [`JournalError::Busy`] if the queue is full, [`JournalError::Stopped`] if closed.
    pub(super) fn push(&self, request: T) -> Result<(), JournalError> {
        let mut inside = self.inside.lock();
        if inside.closed {
            return Err(JournalError::Stopped);
        }
        if inside.requests.len() >= self.capacity {
            return Err(JournalError::Busy);
        }
        inside.requests.push_back(request);
        drop(inside);
        self.changed.notify_one();
        Ok(())
    }

    /// The reader is to wake at this time, or earlier if it was to be reminded of something earlier.
    pub(super) fn remind(&self, at: Instant) {
        let mut inside = self.inside.lock();
        inside.reminder = Some(inside.reminder.map_or(at, |earlier| earlier.min(at)));
        if inside.wakes_at.is_none_or(|wakes| at < wakes) {
            drop(inside);
            self.changed.notify_one();
        }
    }

    /// Takes no more requests; those that wait are still read.
    pub(super) fn close(&self) {
        self.inside.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes no more requests, and drops those that wait: there is no reader any more.
    pub(super) fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.inside.lock().requests);
        drop(waiting);
    }

    /// Nothing waits, and more is taken.
    pub(super) fn is_idle(&self) -> bool {
        let inside = self.inside.lock();
        inside.requests.is_empty() && !inside.closed
    }

    pub(super) fn len(&self) -> usize {
        self.inside.lock().requests.len()
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Waits for requests and moves them into the batch, up to so many in all.
    pub(super) fn wait(&self, batch: &mut Vec<T>, most: usize) -> Woken {
        let mut inside = self.inside.lock();
        loop {
            if !inside.requests.is_empty() {
                inside.move_to(batch, most);
                return Woken::Requests;
            }
            if inside.closed {
                return Woken::Closed;
            }
            let now = Instant::now();
            if inside.reminder.is_some_and(|at| now >= at) {
                inside.reminder = None;
                inside.glance = Some(now + GLANCE);
                return Woken::Reminder;
            }
            inside.glance = inside.glance.filter(|at| now < *at);
            inside.wakes_at = inside.reminder.or(inside.glance);
            match inside.wakes_at {
                Some(at) => drop(self.changed.wait_until(&mut inside, at)),
                None => self.changed.wait(&mut inside),
            }
        }
    }

    /// Moves what waits now into the batch, up to so many in all.
    pub(super) fn take(&self, batch: &mut Vec<T>, most: usize) {
        self.inside.lock().move_to(batch, most);
    }
}

impl<T> Inside<T> {
    fn move_to(&mut self, batch: &mut Vec<T>, most: usize) {
        let count = most.saturating_sub(batch.len()).min(self.requests.len());
        batch.extend(self.requests.drain(..count));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_queue_is_busy_and_a_closed_one_stopped_but_read_to_its_end() {
        let queue = Queue::new(2);
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        assert!(matches!(queue.push(3), Err(JournalError::Busy)));
        queue.close();
        assert!(matches!(queue.push(3), Err(JournalError::Stopped)));
        let mut batch = Vec::new();
        assert_eq!(queue.wait(&mut batch, 1), Woken::Requests);
        queue.take(&mut batch, 1);
        assert_eq!(batch, [1]);
        assert_eq!(queue.wait(&mut batch, 9), Woken::Requests);
        assert_eq!(queue.wait(&mut batch, 9), Woken::Closed);
        assert_eq!((batch, queue.len()), (vec![1, 2], 0));
    }

    #[test]
    fn a_reminder_wakes_once_at_the_earliest_of_its_times() {
        let queue = Queue::<u8>::new(2);
        let begun = Instant::now();
        queue.remind(begun + Duration::from_millis(5));
        queue.remind(begun + Duration::from_hours(1));
        assert_eq!(queue.wait(&mut Vec::new(), 1), Woken::Reminder);
        assert!(begun.elapsed() >= Duration::from_millis(5));
        queue.close();
        assert_eq!(queue.wait(&mut Vec::new(), 1), Woken::Closed);
    }

    #[test]
    fn a_reminder_that_wakes_nobody_comes_in_time_all_the_same() {
        let queue = Queue::<u8>::new(2);
        for after in [GLANCE / 4, GLANCE * 4, GLANCE * 2] {
            queue.remind(Instant::now());
            assert_eq!(queue.wait(&mut Vec::new(), 1), Woken::Reminder);
            let due = std::thread::scope(|scope| {
                let reminding = scope.spawn(|| {
                    let asleep =
                        || queue.inside.lock().wakes_at.is_some_and(|at| at > Instant::now());
                    while !asleep() {
                        std::thread::yield_now();
                    }
                    let due = Instant::now() + after;
                    queue.remind(due);
                    due
                });
                assert_eq!(queue.wait(&mut Vec::new(), 1), Woken::Reminder);
                reminding.join().unwrap()
            });
            assert!(Instant::now() >= due);
            assert!(due.elapsed() < Duration::from_secs(5), "{after:?}");
        }
    }
}
