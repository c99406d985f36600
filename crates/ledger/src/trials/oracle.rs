//! The naive account of the books: plain numbers and loops, no sharing with the machine's code.

use std::collections::HashMap;

use super::{SLOTS, Step, TOKENS, WINDOW};

#[derive(Default)]
pub(super) struct Oracle {
    posted: HashMap<String, i64>,
    holds: Vec<OracleHold>,
    pub(super) lots: Vec<OracleLot>,
    /// Tokens used, by wallet and beginning of the window.
    used: HashMap<(u8, i64), i64>,
}

struct OracleHold {
    wallet: u8,
    amount: i64,
    lease: i64,
    window: i64,
    state: &'static str,
}

pub(super) struct OracleLot {
    pub(super) wallet: u8,
    pub(super) left: i64,
    priority: i32,
    ends: Option<i64>,
    promotional: bool,
}

impl Oracle {
    pub(super) fn posted(&self, name: &str) -> i64 {
        self.posted.get(name).copied().unwrap_or(0)
    }

    fn open_holds(&self, of: u8) -> impl Iterator<Item = &OracleHold> {
        self.holds.iter().filter(move |hold| hold.wallet == of && hold.state == "open")
    }

    pub(super) fn held(&self, of: u8) -> i64 {
        self.open_holds(of).map(|hold| hold.amount).sum()
    }

    fn free(&self, of: u8) -> i64 {
        self.posted(&format!("wallet{of}")) - self.held(of)
    }

    /// Used and held of a counter.
    pub(super) fn counter(&self, of: u8, what: &str, start: i64) -> (i64, i64) {
        if what == "slots" {
            return (0, self.open_holds(of).map(|_| 1).sum());
        }
        let held = self.open_holds(of).filter(|hold| hold.window == start);
        (self.used.get(&(of, start)).copied().unwrap_or(0), held.map(|hold| hold.amount).sum())
    }

    fn within_limits(&self, of: u8, tokens: i64, window: i64) -> bool {
        let (used, held) = self.counter(of, "tokens", window);
        used + held + tokens <= TOKENS
    }

    fn shift(&mut self, from: String, to: String, amount: i64) {
        *self.posted.entry(from).or_default() -= amount;
        *self.posted.entry(to).or_default() += amount;
    }

    /// Money leaves a wallet one billionth at a time, each from where it is spent first.
    fn spend(&mut self, of: u8, to: &str, amount: i64) {
        for _ in 0..amount {
            let mut base = self.posted(&format!("wallet{of}"));
            base -=
                self.lots.iter().filter(|lot| lot.wallet == of).map(|lot| lot.left).sum::<i64>();
            let mut best = (base > 0).then_some((100, i64::MAX, 1, None));
            for (at, lot) in self.lots.iter().enumerate() {
                let ends = lot.ends.unwrap_or(i64::MAX);
                let rank = (lot.priority, ends, i32::from(!lot.promotional), Some(at));
                if lot.wallet == of && lot.left > 0 && best.is_none_or(|best| rank < best) {
                    best = Some(rank);
                }
            }
            if let Some((_, _, _, Some(at))) = best {
                self.lots[at].left -= 1;
            }
            self.shift(format!("wallet{of}"), to.to_owned(), 1);
        }
    }

    fn repay(&mut self, of: u8) {
        let due = (-self.posted(&format!("debt{of}"))).min(self.free(of));
        if due > 0 {
            self.spend(of, &format!("debt{of}"), due);
        }
    }

    /// Whether the step must be applied; moves the numbers if so.
    pub(super) fn step(&mut self, step: &Step, now: i64) -> bool {
        match *step {
            Step::Grant { to, amount } => {
                self.shift("grants".into(), format!("wallet{to}"), amount);
                self.repay(to);
                true
            }
            Step::Lot { to, amount, priority, life, promotional } => {
                self.shift("grants".into(), format!("wallet{to}"), amount);
                let ends = life.map(|life| now + life);
                self.lots.push(OracleLot { wallet: to, left: amount, priority, ends, promotional });
                self.repay(to);
                true
            }
            Step::ExpireLot { lot } => self.expire_lot(lot, now),
            Step::Pay { from, to, amount } => {
                let fits = from != to && self.free(from) >= amount;
                if fits {
                    self.spend(from, &format!("wallet{to}"), amount);
                    self.repay(to);
                }
                fits
            }
            Step::Hold { of, amount, lease } => self.hold(of, amount, now + lease, now),
            Step::Extend { hold, amount } => {
                let Some(found) = self.holds.get(hold) else { return false };
                let fits = found.state == "open"
                    && self.free(found.wallet) >= amount
                    && (amount == 0 || self.within_limits(found.wallet, amount, found.window));
                if fits {
                    self.holds[hold].amount += amount;
                }
                fits
            }
            Step::Settle { hold, amount, max_debt } => self.settle(hold, amount, max_debt),
            Step::Void { hold } => self.close(hold, "voided", true),
            Step::Expire { hold } => {
                let due = self.holds.get(hold).is_some_and(|hold| hold.lease <= now);
                self.close(hold, "expired", due)
            }
            Step::Reverse { .. } | Step::Repeat { .. } => false,
        }
    }

    fn hold(&mut self, wallet: u8, amount: i64, lease: i64, now: i64) -> bool {
        let window = now / WINDOW * WINDOW;
        let fits = self.free(wallet) >= amount
            && self.within_limits(wallet, amount, window)
            && self.counter(wallet, "slots", 0).1 < SLOTS;
        if fits {
            self.holds.push(OracleHold { wallet, amount, lease, window, state: "open" });
        }
        fits
    }

    fn expire_lot(&mut self, lot: usize, now: i64) -> bool {
        let Some(found) = self.lots.get(lot) else { return false };
        let of = found.wallet;
        let amount = found.left.min(self.free(of));
        if found.ends.is_none_or(|ends| ends > now) || amount <= 0 {
            return false;
        }
        self.lots[lot].left -= amount;
        self.shift(format!("wallet{of}"), "breakage".into(), amount);
        true
    }

    fn close(&mut self, hold: usize, state: &'static str, due: bool) -> bool {
        match self.holds.get_mut(hold) {
            Some(found) if found.state == "open" && due => {
                found.state = state;
                let of = found.wallet;
                self.repay(of);
                true
            }
            _ => false,
        }
    }

    fn settle(&mut self, hold: usize, amount: i64, max_debt: i64) -> bool {
        let Some(found) = self.holds.get_mut(hold) else { return false };
        if !matches!(found.state, "open" | "expired") {
            return false;
        }
        let (of, window, in_time) = (found.wallet, found.window, found.state == "open");
        found.state = "settled";
        let own = amount.min(self.free(of).max(0));
        self.spend(of, "sales", own);
        let room = (max_debt + self.posted(&format!("debt{of}"))).max(0);
        let owed = (amount - own).min(room);
        self.shift(format!("debt{of}"), "sales".into(), owed);
        if in_time {
            *self.used.entry((of, window)).or_default() += amount;
        }
        self.repay(of);
        true
    }
}
