//! What a run may still spend.

use std::sync::Arc;

use kernel::Amount;
use parking_lot::Mutex;

/// What a run may still spend. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    limit: Option<Amount>,
    spent: Amount,
    reserved: Amount,
}

/// A part of a budget set aside for one call; given back when dropped.
#[derive(Debug)]
#[must_use = "what is not kept is given back"]
pub struct Reserved {
    budget: Budget,
    amount: Amount,
}

impl Budget {
    pub(crate) fn new(limit: Option<Amount>, spent: Amount) -> Self {
        Self(Arc::new(Mutex::new(Inner { limit, spent, reserved: Amount::ZERO })))
    }

    /// Sets this much aside, or says how much is left if that is not enough.
    pub fn reserve(&self, amount: Amount) -> Result<Reserved, Amount> {
        let mut inner = self.0.lock();
        if let Some(limit) = inner.limit {
            let left = limit.saturating_sub(inner.spent).saturating_sub(inner.reserved);
            if amount > left {
                return Err(left.max(Amount::ZERO));
            }
        }
        inner.reserved = inner.reserved.saturating_add(amount);
        drop(inner);
        Ok(Reserved { budget: self.clone(), amount })
    }

    pub(crate) fn spend(&self, amount: Amount) {
        let mut inner = self.0.lock();
        inner.spent = inner.spent.saturating_add(amount);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut inner = self.budget.0.lock();
        inner.reserved = inner.reserved.saturating_sub(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_side_by_side_share_one_budget() {
        let nanos = Amount::from_nanos;
        let budget = Budget::new(Some(nanos(100)), nanos(10));
        let first = budget.reserve(nanos(60)).unwrap();
        assert_eq!(budget.reserve(nanos(31)).unwrap_err(), nanos(30));
        budget.spend(nanos(20));
        drop(first);
        assert_eq!(budget.reserve(nanos(71)).unwrap_err(), nanos(70));
        let _all = budget.reserve(nanos(70)).unwrap();
        assert!(Budget::new(None, nanos(5)).reserve(Amount::MAX).is_ok());
    }
}
