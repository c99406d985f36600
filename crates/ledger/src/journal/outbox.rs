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
    use super::*;
    use crate::JournalError;

    fn letter() -> (Letter, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Letter::Answer(sender, Err(JournalError::Busy)), receiver)
    }

    #[test]
    fn several_answers_to_a_runtime_are_one_task_of_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (letters, mut answers): (Vec<_>, Vec<_>) = (0..50).map(|_| letter()).unzip();
        let mut outbox = Outbox::default();
        letters.into_iter().for_each(|letter| outbox.put(Some(runtime.handle()), letter));
        drop(outbox);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "it has not run yet");
        assert_eq!(runtime.metrics().num_alive_tasks(), 1);
        runtime.block_on(tokio::task::yield_now());
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_ok()));
    }

    #[test]
    fn one_answer_and_those_to_the_own_runtime_are_given_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let give = |count: usize| {
            let (letters, answers): (Vec<_>, Vec<_>) = (0..count).map(|_| letter()).unzip();
            let mut outbox = Outbox::default();
            letters.into_iter().for_each(|letter| outbox.put(Some(runtime.handle()), letter));
            drop(outbox);
            answers.into_iter().all(|mut answer| answer.try_recv().is_ok())
        };
        assert!(give(1));
        assert!(runtime.block_on(async { give(3) }));
        assert_eq!(runtime.metrics().num_alive_tasks(), 0);
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
