//! Answers on their way to those who wait for them.

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Answer;
use crate::Receipt;

/// An answer, and who waits for it.
#[derive(Debug)]
pub(super) enum Letter {
    Answer(oneshot::Sender<Answer>, Answer),
    Decided(oneshot::Sender<Receipt>, Receipt),
}

impl Letter {
    fn deliver(self) {
        // Who does not wait any more is not told.
        match self {
            Self::Answer(to, answer) => drop(to.send(answer)),
            Self::Decided(to, receipt) => drop(to.send(receipt)),
        }
    }
}

/// Letters to the tasks of one runtime; delivered when this ends, also with a runtime that ends.
#[derive(Debug, Default)]
struct Bundle(Vec<Letter>);

impl Drop for Bundle {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Letter::deliver);
    }
}

/// Answers that are ready: they go out together, when this ends.
///
/// A runtime that waits for several is woken once: each wake-up is a system call, and who is woken first takes
/// the processor from the one that has the others to tell (docs/adr/0019).
#[derive(Debug, Default)]
pub(super) struct Outbox(Vec<(Option<Handle>, Bundle)>);

impl Outbox {
    /// Adds a letter to a task of this runtime.
    pub(super) fn put(&mut self, runtime: Option<&Handle>, letter: Letter) {
        let id = runtime.map(Handle::id);
        let known = self.0.iter_mut().find(|(to, _)| to.as_ref().map(Handle::id) == id);
        match known {
            Some((_, bundle)) => bundle.0.push(letter),
            None => self.0.push((runtime.cloned(), Bundle(vec![letter]))),
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let here = Handle::try_current().ok().map(|handle| handle.id());
        for (to, bundle) in self.0.drain(..) {
            match to.filter(|to| bundle.0.len() > 1 && Some(to.id()) != here) {
                Some(elsewhere) => drop(elsewhere.spawn(async move { drop(bundle) })),
                None => drop(bundle),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::JournalError;

    fn letter() -> (Letter, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Letter::Answer(sender, Err(JournalError::Busy)), receiver)
    }

    #[test]
    fn a_runtime_is_woken_once_for_all_answers_to_its_tasks() {
        let wakes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&wakes);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_unpark(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .unwrap();
        let (letters, answers): (Vec<_>, Vec<_>) = (0..50).map(|_| letter()).unzip();
        let handle = runtime.handle().clone();
        let (waiting, waits) = std::sync::mpsc::channel();
        let journal = std::thread::spawn(move || {
            waits.recv().unwrap();
            let mut outbox = Outbox::default();
            letters.into_iter().for_each(|letter| outbox.put(Some(&handle), letter));
        });
        runtime.block_on(async move {
            let tasks: Vec<_> = answers.into_iter().map(|answer| tokio::spawn(answer)).collect();
            tokio::task::yield_now().await;
            waiting.send(()).unwrap();
            for task in tasks {
                assert!(matches!(task.await.unwrap(), Ok(Err(JournalError::Busy))));
            }
        });
        journal.join().unwrap();
        assert!(wakes.load(Ordering::SeqCst) <= 3, "{wakes:?}");
    }

    #[test]
    fn answers_arrive_also_where_no_runtime_runs_any_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let mut outbox = Outbox::default();
        let (letters, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| letter()).unzip();
        let to = [Some(&handle), Some(&handle), None];
        letters.into_iter().zip(to).for_each(|(letter, to)| outbox.put(to, letter));
        drop(outbox);
        for mut answer in answers {
            assert!(matches!(answer.try_recv(), Ok(Err(JournalError::Busy))));
        }
    }
}
