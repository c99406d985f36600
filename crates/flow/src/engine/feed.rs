//! What those who watch a run are told: the newest events, and texts of models as they come.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::event::{Event, Logged};

/// Events kept for watchers; whoever is further behind reads the log.
const TAIL: usize = 32;
/// Dead feeds are looked for when there are so many entries.
const FIRST_SWEEP: usize = 64;

/// What is told of one run. Nobody is waited for: a watcher that is slow gets the texts in larger
/// pieces, and the events from the log.
#[derive(Debug)]
pub(crate) struct Feed {
    inner: Mutex<Inner>,
    bell: watch::Sender<()>,
    /// Longer texts are not kept: their step fails by its size.
    longest: usize,
}

#[derive(Debug, Default)]
struct Inner {
    tail: VecDeque<Arc<Logged>>,
    texts: BTreeMap<u64, Text>,
}

/// The text of a step under way, as far as it has come.
#[derive(Clone, Debug)]
struct Text {
    attempt: u32,
    said: String,
}

/// How far a watcher has read the text of a step: its attempt, and so many bytes.
pub(super) type Places = BTreeMap<u64, (u32, usize)>;

/// What is new to a watcher.
pub(super) enum Fresh {
    /// More has happened than is kept here: the log has it.
    Behind,
    /// This has happened.
    Events(Vec<Arc<Logged>>),
    /// Pieces of texts: step, attempt, where the piece begins, the piece.
    Texts(Vec<(u64, u32, usize, String)>),
}

impl Feed {
    fn new(longest: usize) -> Self {
        Self { inner: Mutex::default(), bell: watch::Sender::new(()), longest }
    }

    /// Rings when there is something new.
    pub(super) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// A piece of a text has come.
    pub(crate) fn say(&self, step: u64, attempt: u32, piece: &str) {
        let mut inner = self.inner.lock();
        let text = inner.texts.entry(step).or_insert_with(|| Text { attempt, said: String::new() });
        if text.attempt != attempt {
            *text = Text { attempt, said: String::new() };
        }
        if text.said.len() + piece.len() <= self.longest {
            text.said.push_str(piece);
        }
        drop(inner);
        self.bell.send_replace(());
    }

    /// Events were written.
    pub(super) fn happened(&self, events: impl Iterator<Item = Logged>) {
        let watched = self.bell.receiver_count() > 0;
        let mut inner = self.inner.lock();
        if !watched {
            inner.tail.clear();
        }
        for logged in events {
            if let Event::StepFinished { step, .. }
            | Event::StepFailed { step, .. }
            | Event::StepRetried { step, .. } = &logged.event
            {
                inner.texts.remove(step);
            }
            if watched {
                inner.tail.push_back(Arc::new(logged));
            }
        }
        while inner.tail.len() > TAIL {
            inner.tail.pop_front();
        }
        drop(inner);
        self.bell.send_replace(());
    }

    /// The run is no longer at work here: what was being said has no end here.
    pub(super) fn hush(&self) {
        self.inner.lock().texts.clear();
    }

    /// What is new to a watcher that has the events up to `seq` and the texts up to `places`. Events
    /// go first, so that a text never comes before its step.
    pub(super) fn after(&self, seq: i64, places: &Places) -> Fresh {
        let inner = self.inner.lock();
        let new = || inner.tail.iter().filter(|logged| logged.seq > seq);
        match new().next() {
            Some(first) if first.seq == seq + 1 => return Fresh::Events(new().cloned().collect()),
            Some(_) => return Fresh::Behind,
            None => {}
        }
        let unheard = |(step, text): (&u64, &Text)| {
            let read = places.get(step).filter(|(attempt, _)| *attempt == text.attempt);
            let from = read.map_or(0, |(_, bytes)| *bytes);
            let piece = text.said.get(from..).filter(|piece| !piece.is_empty())?;
            Some((*step, text.attempt, from, piece.to_owned()))
        };
        Fresh::Texts(inner.texts.iter().filter_map(unheard).collect())
    }
}

/// The feeds of the runs that are at work here or watched.
#[derive(Debug)]
pub(super) struct Feeds {
    known: Mutex<Known>,
    longest: usize,
}

#[derive(Debug)]
struct Known {
    feeds: HashMap<Arc<str>, Weak<Feed>>,
    sweep_at: usize,
}

impl Feeds {
    pub(super) fn new(longest: usize) -> Self {
        let known = Known { feeds: HashMap::new(), sweep_at: FIRST_SWEEP };
        Self { known: Mutex::new(known), longest }
    }

    /// The one feed of a run.
    pub(super) fn of(&self, run: &Arc<str>) -> Arc<Feed> {
        let mut known = self.known.lock();
        let Known { feeds, sweep_at } = &mut *known;
        if let Some(feed) = feeds.get(run).and_then(Weak::upgrade) {
            return feed;
        }
        if feeds.len() >= *sweep_at {
            feeds.retain(|_, feed| feed.strong_count() > 0);
            *sweep_at = (feeds.len() * 2).max(FIRST_SWEEP);
        }
        let feed = Arc::new(Feed::new(self.longest));
        feeds.insert(Arc::clone(run), Arc::downgrade(&feed));
        feed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::Timestamp;

    fn started(seq: i64) -> Logged {
        let event = Event::Started { deadline: None };
        Logged { seq, at: Timestamp::default(), cost: None, event }
    }

    #[test]
    fn a_watcher_that_lags_is_sent_to_the_log_and_gets_texts_in_larger_pieces() {
        let feed = Feed::new(10);
        let bell = feed.bell();
        feed.happened((1..=2).map(started));
        feed.say(5, 1, "ab");
        feed.say(5, 1, "cd");
        let mut places = Places::new();
        assert!(matches!(feed.after(0, &places), Fresh::Events(events) if events.len() == 2));
        let Fresh::Texts(texts) = feed.after(2, &places) else { panic!() };
        assert_eq!(texts, [(5, 1, 0, "abcd".to_owned())]);
        places.insert(5, (1, 3));
        let Fresh::Texts(texts) = feed.after(2, &places) else { panic!() };
        assert_eq!(texts, [(5, 1, 3, "d".to_owned())]);
        // Another attempt begins anew, and what is too long is not kept.
        feed.say(5, 2, "x");
        feed.say(5, 2, "0123456789");
        let Fresh::Texts(texts) = feed.after(2, &places) else { panic!() };
        assert_eq!(texts, [(5, 2, 0, "x".to_owned())]);
        feed.happened((3..=50).map(started));
        assert!(matches!(feed.after(2, &places), Fresh::Behind));
        // Without watchers nothing is kept.
        drop(bell);
        feed.happened(std::iter::once(started(99)));
        assert!(matches!(feed.after(2, &places), Fresh::Texts(_)));
    }

    #[test]
    fn a_run_has_one_feed_and_dead_ones_are_forgotten() {
        let feeds = Feeds::new(10);
        let run: Arc<str> = "run".into();
        let feed = feeds.of(&run);
        assert!(Arc::ptr_eq(&feed, &feeds.of(&run)));
        (0..10 * FIRST_SWEEP).for_each(|at| drop(feeds.of(&at.to_string().into())));
        assert!(feeds.known.lock().feeds.len() <= FIRST_SWEEP + 1);
        assert!(Arc::ptr_eq(&feed, &feeds.of(&run)));
    }
}
