//! The machine against an independent, naive account of what it should do; with every guard taken
//! away once, to show that the comparison notices.

use std::collections::HashMap;

use kernel::{Amount, Timestamp};
use proptest::prelude::*;

use crate::machine::{Conflict, apply};
use crate::state::{Changes, Sabotage, State};
use crate::{
    AccountKey, AccountKind, Charge, Command, HoldId, HoldLeg, Leg, Operation, Outcome, Receipt,
    Unit,
};

/// A step of a trial; holds are named by the order in which they were taken.
#[derive(Clone, Debug)]
enum Step {
    Grant { to: u8, amount: i64 },
    Hold { of: u8, amount: i64, lease: i64 },
    Extend { hold: usize, amount: i64 },
    Settle { hold: usize, amount: i64, max_debt: i64 },
    Void { hold: usize },
    Expire { hold: usize },
    Pay { from: u8, to: u8, amount: i64 },
    Reverse { step: usize },
    Repeat { step: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..3_u8, 1..100_i64).prop_map(|(to, amount)| Step::Grant { to, amount }),
        4 => (0..3_u8, 0..60_i64, 0..40_i64).prop_map(|(of, amount, lease)| Step::Hold { of, amount, lease }),
        1 => (0..20_usize, 1..30_i64).prop_map(|(hold, amount)| Step::Extend { hold, amount }),
        3 => (0..20_usize, 0..120_i64, 0..20_i64)
            .prop_map(|(hold, amount, max_debt)| Step::Settle { hold, amount, max_debt }),
        1 => (0..20_usize).prop_map(|hold| Step::Void { hold }),
        2 => (0..20_usize).prop_map(|hold| Step::Expire { hold }),
        2 => (0..3_u8, 0..3_u8, 1..80_i64).prop_map(|(from, to, amount)| Step::Pay { from, to, amount }),
        1 => (0..30_usize).prop_map(|step| Step::Reverse { step }),
        1 => (0..30_usize).prop_map(|step| Step::Repeat { step }),
    ];
    prop::collection::vec(step, 1..60)
}

fn wallet(owner: u8) -> AccountKey {
    AccountKey::new(format!("org{owner}"), AccountKind::Wallet, "CNY".parse().unwrap())
}

fn platform(kind: AccountKind) -> AccountKey {
    AccountKey::new("platform", kind, "CNY".parse().unwrap())
}

fn nanos(amount: i64) -> Amount {
    Amount::from_nanos(amount)
}

/// The naive account: plain numbers, no sharing with the machine's code.
#[derive(Default)]
struct Oracle {
    posted: HashMap<String, i64>,
    holds: Vec<OracleHold>,
}

struct OracleHold {
    wallet: u8,
    amount: i64,
    lease: i64,
    state: &'static str,
}

impl Oracle {
    fn posted(&self, name: &str) -> i64 {
        self.posted.get(name).copied().unwrap_or(0)
    }

    fn held(&self, of: u8) -> i64 {
        self.holds
            .iter()
            .filter(|hold| hold.wallet == of && hold.state == "open")
            .map(|hold| hold.amount)
            .sum()
    }

    fn free(&self, of: u8) -> i64 {
        self.posted(&format!("wallet{of}")) - self.held(of)
    }

    fn shift(&mut self, from: String, to: String, amount: i64) {
        *self.posted.entry(from).or_default() -= amount;
        *self.posted.entry(to).or_default() += amount;
    }

    fn repay(&mut self, of: u8) {
        let due = (-self.posted(&format!("debt{of}"))).min(self.free(of));
        if due > 0 {
            self.shift(format!("wallet{of}"), format!("debt{of}"), due);
        }
    }

    /// Whether the step must be applied; moves the numbers if so.
    fn step(&mut self, step: &Step, now: i64) -> bool {
        match *step {
            Step::Grant { to, amount } => {
                self.shift("grants".into(), format!("wallet{to}"), amount);
                self.repay(to);
                true
            }
            Step::Pay { from, to, amount } => {
                let fits = from != to && self.free(from) >= amount;
                if fits {
                    self.shift(format!("wallet{from}"), format!("wallet{to}"), amount);
                    self.repay(to);
                }
                fits
            }
            Step::Hold { of, amount, lease } => {
                let fits = self.free(of) >= amount;
                if fits {
                    self.holds.push(OracleHold {
                        wallet: of,
                        amount,
                        lease: now + lease,
                        state: "open",
                    });
                }
                fits
            }
            Step::Extend { hold, amount } => {
                let Some(found) = self.holds.get(hold) else { return false };
                let fits = found.state == "open" && self.free(found.wallet) >= amount;
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
        found.state = "settled";
        let of = found.wallet;
        let own = amount.min(self.free(of).max(0));
        self.shift(format!("wallet{of}"), "sales".into(), own);
        let room = (max_debt + self.posted(&format!("debt{of}"))).max(0);
        let owed = (amount - own).min(room);
        self.shift(format!("debt{of}"), "sales".into(), owed);
        self.repay(of);
        true
    }
}

/// A trial of the machine beside its oracle.
struct Trial {
    state: State,
    oracle: Oracle,
    holds: Vec<HoldId>,
    done: Vec<(Operation, Receipt)>,
    now: i64,
}

impl Trial {
    fn new(sabotage: Option<Sabotage>) -> Self {
        let mut state = State::default();
        state.sabotage = sabotage;
        state.head.next_account = 1;
        Self { state, oracle: Oracle::default(), holds: Vec::new(), done: Vec::new(), now: 0 }
    }

    fn command(&self, step: &Step) -> Command {
        let hold = |at: usize| self.holds.get(at).copied().unwrap_or(HoldId(1_000_000));
        match *step {
            Step::Grant { to, amount } => Command::Transfer {
                legs: vec![Leg {
                    from: platform(AccountKind::Grant),
                    to: wallet(to),
                    amount: nanos(amount),
                }],
            },
            Step::Pay { from, to, amount } => Command::Transfer {
                legs: vec![Leg { from: wallet(from), to: wallet(to), amount: nanos(amount) }],
            },
            Step::Hold { of, amount, lease } => Command::Hold {
                legs: vec![HoldLeg { account: wallet(of), amount: nanos(amount) }],
                lease_until: Timestamp::from_micros(self.now + lease),
            },
            Step::Extend { hold: at, amount } => {
                Command::Extend { hold: hold(at), leg: 0, amount: nanos(amount) }
            }
            Step::Settle { hold: at, amount, max_debt } => Command::Settle {
                hold: hold(at),
                charges: vec![Charge {
                    leg: 0,
                    to: platform(AccountKind::Revenue),
                    amount: nanos(amount),
                }],
                max_debt: nanos(max_debt),
            },
            Step::Void { hold: at } => Command::Void { hold: hold(at) },
            Step::Expire { hold: at } => Command::Expire { hold: hold(at), orphaned: false },
            Step::Reverse { step } => Command::Reverse { original: format!("op{step}").into() },
            Step::Repeat { .. } => {
                Command::Renew { holds: Vec::new(), lease_until: Timestamp::from_micros(0) }
            }
        }
    }

    fn apply(&mut self, operation: Operation) -> Result<Receipt, Conflict> {
        apply(
            &mut self.state,
            &mut Changes::default(),
            &Unit::from(operation),
            Timestamp::from_micros(self.now),
        )
    }

    /// Takes a step on both sides; says what differs.
    fn step(&mut self, at: usize, step: &Step) -> Result<(), String> {
        self.now += 7;
        match *step {
            Step::Repeat { step } => return self.repeat(step),
            // What is reversed here is a settlement's or transfer's own doing: the oracle is silent.
            Step::Reverse { .. } => return Ok(()),
            _ => {}
        }
        let operation = Operation::new(format!("op{at}"), self.command(step));
        let expected = self.oracle.step(step, self.now);
        let receipt =
            self.apply(operation.clone()).map_err(|Conflict| "a new id conflicts".to_owned())?;
        let applied = matches!(receipt.outcome, Outcome::Applied(_));
        if applied != expected {
            return Err(format!(
                "{step:?} gave {:?}, expected applied = {expected}",
                receipt.outcome
            ));
        }
        if applied && matches!(step, Step::Hold { .. }) {
            self.holds.push(HoldId(receipt.seq));
        }
        self.done.push((operation, receipt));
        self.compare()
    }

    /// The same operation again gives the first receipt; another under its id is a conflict.
    fn repeat(&mut self, at: usize) -> Result<(), String> {
        let Some((operation, first)) = self.done.get(at).cloned() else { return Ok(()) };
        let again =
            self.apply(operation.clone()).map_err(|Conflict| "a repeat conflicts".to_owned())?;
        if again != (Receipt { replayed: true, ..first }) {
            return Err(format!("a repeat gave {again:?}"));
        }
        let other = Operation { memo: Some("other".into()), ..operation };
        match self.apply(other) {
            Err(Conflict) => self.compare(),
            Ok(receipt) => Err(format!("an id was used twice: {receipt:?}")),
        }
    }

    fn balance(&self, key: &AccountKey) -> (i64, i64) {
        self.state.account(key).map_or((0, 0), |account| {
            (account.balance.posted.nanos(), account.balance.held.nanos())
        })
    }

    fn compare(&self) -> Result<(), String> {
        let mut sum = 0;
        for of in 0..3 {
            let (posted, held) = self.balance(&wallet(of));
            let (owed, _) = self.balance(&wallet(of).sibling(AccountKind::Debt));
            let expected = (self.oracle.posted(&format!("wallet{of}")), self.oracle.held(of));
            if (posted, held) != expected {
                return Err(format!("wallet {of} is {:?}, expected {expected:?}", (posted, held)));
            }
            if owed != self.oracle.posted(&format!("debt{of}")) || posted - held < 0 || owed > 0 {
                return Err(format!(
                    "wallet {of} is overdrawn or owes wrongly: {posted} {held} {owed}"
                ));
            }
            sum += posted + owed;
        }
        sum += self.balance(&platform(AccountKind::Grant)).0
            + self.balance(&platform(AccountKind::Revenue)).0;
        if sum != 0 { Err(format!("money was made: the sum is {sum}")) } else { Ok(()) }
    }

    fn run(steps: &[Step], sabotage: Option<Sabotage>) -> Result<(), String> {
        let mut trial = Self::new(sabotage);
        steps.iter().enumerate().try_for_each(|(at, step)| trial.step(at, step))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_oracle_says(steps in steps()) {
        if let Err(difference) = Trial::run(&steps, None) {
            prop_assert!(false, "{difference}");
        }
    }

    #[test]
    fn the_outcome_depends_on_the_operations_alone(steps in steps()) {
        let run = || {
            let mut trial = Trial::new(None);
            for (at, step) in steps.iter().enumerate() {
                drop(trial.step(at, step));
            }
            (trial.state.head, trial.done)
        };
        prop_assert_eq!(run(), run());
    }
}

/// Without a guard, the same comparison must fail on some of the same trials.
#[test]
fn every_guard_is_missed_when_it_is_gone() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let every = [
        Sabotage::Overdraft,
        Sabotage::ResolveTwice,
        Sabotage::ForgetIds,
        Sabotage::LoseRelease,
        Sabotage::CreateMoney,
    ];
    for sabotage in every {
        let mut runner = TestRunner::deterministic();
        let noticed = (0..500).any(|_| {
            let trial = steps().new_tree(&mut runner).unwrap().current();
            Trial::run(&trial, Some(sabotage)).is_err()
        });
        assert!(noticed, "nobody notices {sabotage:?}");
    }
}

#[test]
fn a_reversal_moves_back_once_and_never_below_the_floor() {
    let mut trial = Trial::new(None);
    trial.step(0, &Step::Grant { to: 0, amount: 50 }).unwrap();
    let original = crate::state::Original {
        seq: 1,
        transfers: vec![crate::rows::TransferRow { debit: 1, credit: 2, amount: 50 }],
        reversed: false,
    };
    trial.state.originals.insert("op0".into(), original);
    let reverse = |id: &str| Operation::new(id, Command::Reverse { original: "op0".into() });
    let hold = Command::Hold {
        legs: vec![HoldLeg { account: wallet(0), amount: nanos(10) }],
        lease_until: Timestamp::from_micros(0),
    };
    let held = trial.apply(Operation::new("hold", hold)).unwrap();
    let refused = trial.apply(reverse("r1")).unwrap();
    assert!(matches!(refused.outcome, Outcome::Refused(crate::Refusal::InsufficientFunds { .. })));
    trial.apply(Operation::new("void", Command::Void { hold: HoldId(held.seq) })).unwrap();
    let done = trial.apply(reverse("r2")).unwrap();
    assert!(matches!(done.outcome, Outcome::Applied(_)));
    assert_eq!(trial.balance(&wallet(0)), (0, 0));
    let again = trial.apply(reverse("r3")).unwrap();
    assert_eq!(again.outcome, Outcome::Refused(crate::Refusal::AlreadyReversed));
}

#[test]
fn a_hold_of_several_legs_is_taken_and_charged_as_one() {
    let mut trial = Trial::new(None);
    trial.step(0, &Step::Grant { to: 0, amount: 50 }).unwrap();
    trial.step(1, &Step::Grant { to: 1, amount: 20 }).unwrap();
    let legs = |second: i64| Command::Hold {
        legs: vec![
            HoldLeg { account: wallet(0), amount: nanos(30) },
            HoldLeg { account: wallet(1), amount: nanos(second) },
        ],
        lease_until: Timestamp::from_micros(0),
    };
    let refused = trial.apply(Operation::new("a", legs(21))).unwrap();
    assert!(matches!(refused.outcome, Outcome::Refused(_)));
    assert_eq!((trial.balance(&wallet(0)), trial.balance(&wallet(1))), ((50, 0), (20, 0)));
    let held = trial.apply(Operation::new("b", legs(20))).unwrap();
    let charge = |leg: u16, to: AccountKey, amount: i64| Charge { leg, to, amount: nanos(amount) };
    let settle = Command::Settle {
        hold: HoldId(held.seq),
        charges: vec![charge(0, wallet(1), 25), charge(1, platform(AccountKind::Revenue), 15)],
        max_debt: nanos(0),
    };
    let settled = trial.apply(Operation::new("c", settle)).unwrap();
    assert!(matches!(settled.outcome, Outcome::Applied(applied) if applied.amount == nanos(25)));
    assert_eq!((trial.balance(&wallet(0)), trial.balance(&wallet(1))), ((25, 0), (30, 0)));
    assert_eq!(trial.balance(&platform(AccountKind::Revenue)), (15, 0));
}
