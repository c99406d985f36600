//! Whose turn is next: organizations take turns, whatever number of runs each has waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use kernel::OrgId;
use parking_lot::Mutex;

/// A run that waits for its turn.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) run: Arc<str>,
    pub(super) org_id: OrgId,
    /// It had begun before: it is taken over, not started.
    pub(super) begun: bool,
}

/// The runs at work, and those that wait for their turn.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    most: usize,
    most_per_org: usize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<OrgId, VecDeque<Ticket>>,
    /// Organizations with waiting runs, the next one in front.
    turns: VecDeque<OrgId>,
    running: usize,
    running_of: HashMap<OrgId, usize>,
}

impl Queue {
    pub(super) fn new(most: usize, most_per_org: usize) -> Self {
        let (most, most_per_org) = (most.max(1), most_per_org.max(1));
        Self { inner: Mutex::default(), most, most_per_org }
    }

    pub(super) fn waiting(&self, org_id: &OrgId) -> usize {
        self.inner.lock().waiting.get(org_id).map_or(0, VecDeque::len)
    }

    pub(super) fn push(&self, ticket: Ticket) {
        let mut inner = self.inner.lock();
        let org_id = ticket.org_id.clone();
        let line = inner.waiting.entry(org_id.clone()).or_default();
        line.push_back(ticket);
        if line.len() == 1 {
            inner.turns.push_back(org_id);
        }
    }

    /// The next run, if there is room for one; its place must be given back.
    pub(super) fn next(&self) -> Option<Ticket> {
        let mut inner = self.inner.lock();
        if inner.running >= self.most {
            return None;
        }
        for _ in 0..inner.turns.len() {
            let org_id = inner.turns.pop_front()?;
            if inner.running_of.get(&org_id).copied().unwrap_or(0) >= self.most_per_org {
                inner.turns.push_back(org_id);
                continue;
            }
            let line = inner.waiting.get_mut(&org_id)?;
            let ticket = line.pop_front();
            if line.is_empty() {
                inner.waiting.remove(&org_id);
            } else {
                inner.turns.push_back(org_id.clone());
            }
            *inner.running_of.entry(org_id).or_default() += 1;
            inner.running += 1;
            return ticket;
        }
        None
    }

    /// A run begins to work without a turn: somebody answered it.
    pub(super) fn enter(&self, org_id: &OrgId) {
        let mut inner = self.inner.lock();
        inner.running += 1;
        *inner.running_of.entry(org_id.clone()).or_default() += 1;
    }

    /// A run no longer works.
    pub(super) fn leave(&self, org_id: &OrgId) {
        let mut inner = self.inner.lock();
        inner.running = inner.running.saturating_sub(1);
        if let Some(running) = inner.running_of.get_mut(org_id) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                inner.running_of.remove(org_id);
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.running == 0 && inner.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(org: &str, run: usize) -> Ticket {
        Ticket { run: format!("{org}{run}").into(), org_id: org.into(), begun: false }
    }

    #[test]
    fn a_tenant_with_many_runs_does_not_keep_another_waiting() {
        let queue = Queue::new(2, 2);
        (0..10_000).for_each(|run| queue.push(ticket("big", run)));
        assert_eq!(queue.next().unwrap().org_id, "big".into());
        queue.push(ticket("small", 0));
        assert_eq!(queue.next().unwrap().org_id, "big".into());
        assert!(queue.next().is_none());
        queue.leave(&"big".into());
        // One service time later it is the other's turn.
        assert_eq!(queue.next().unwrap().org_id, "small".into());
        assert_eq!(queue.waiting(&"big".into()), 9_998);
    }

    #[test]
    fn an_organization_keeps_to_its_share_and_others_pass() {
        let queue = Queue::new(10, 1);
        (0..3).for_each(|run| queue.push(ticket("a", run)));
        queue.push(ticket("b", 0));
        assert_eq!(queue.next().unwrap().run.as_ref(), "a0");
        assert_eq!(queue.next().unwrap().run.as_ref(), "b0");
        assert!(queue.next().is_none());
        queue.leave(&"a".into());
        assert_eq!(queue.next().unwrap().run.as_ref(), "a1");
        assert!(!queue.is_idle());
    }
}
