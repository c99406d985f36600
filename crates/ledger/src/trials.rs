//! The machine against an independent, naive account of what it should do; with every guard taken
//! away once, to show that the comparison notices.

mod oracle;

use kernel::{Amount, Timestamp};
use proptest::prelude::*;

use self::oracle::Oracle;
use crate::counters::CounterId;
use crate::machine::{Conflict, apply};
use crate::state::{Changes, Sabotage, State};
use crate::{
    AccountKey, AccountKind, Charge, Claim, Command, HoldId, HoldLeg, Leg, LotId, LotKind,
    LotTerms, Measure, Operation, Outcome, Receipt, Unit, Window,
};

/// The most calls of one wallet at a time, and the most tokens in one window of so many instants.
const SLOTS: i64 = 3;
const TOKENS: i64 = 150;
const WINDOW: i64 = 100;

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
    Lot { to: u8, amount: i64, priority: i32, life: Option<i64>, promotional: bool },
    ExpireLot { lot: usize },
    Reverse { step: usize },
    Repeat { step: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..3_u8, 1..100_i64).prop_map(|(to, amount)| Step::Grant { to, amount }),
        4 => (0..3_u8, 0..60_i64, 0..40_i64).prop_map(|(of, amount, lease)| Step::Hold { of, amount, lease }),
        1 => (0..20_usize, 0..30_i64).prop_map(|(hold, amount)| Step::Extend { hold, amount }),
        3 => (0..20_usize, 0..120_i64, 0..20_i64)
            .prop_map(|(hold, amount, max_debt)| Step::Settle { hold, amount, max_debt }),
        1 => (0..20_usize).prop_map(|hold| Step::Void { hold }),
        2 => (0..20_usize).prop_map(|hold| Step::Expire { hold }),
        2 => (0..3_u8, 0..3_u8, 1..80_i64).prop_map(|(from, to, amount)| Step::Pay { from, to, amount }),
        2 => (0..3_u8, 1..60_i64, 99..102_i32, prop::option::of(0..200_i64), any::<bool>())
            .prop_map(|(to, amount, priority, life, promotional)| Step::Lot { to, amount, priority, life, promotional }),
        1 => (0..8_usize).prop_map(|lot| Step::ExpireLot { lot }),
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

/// A trial of the machine beside its oracle.
struct Trial {
    state: State,
    oracle: Oracle,
    holds: Vec<HoldId>,
    lots: Vec<LotId>,
    done: Vec<(Operation, Receipt)>,
    now: i64,
}

impl Trial {
    fn new(sabotage: Option<Sabotage>) -> Self {
        let mut state = State::default();
        state.sabotage = sabotage;
        state.head.next_account = 1;
        Self {
            state,
            oracle: Oracle::default(),
            holds: Vec::new(),
            lots: Vec::new(),
            done: Vec::new(),
            now: 0,
        }
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
                claims: self.claims(of, amount),
                lease_until: Timestamp::from_micros(self.now + lease),
            },
            Step::Extend { hold: at, amount } => {
                Command::Extend { hold: hold(at), leg: 0, amount: nanos(amount), tokens: amount }
            }
            Step::Settle { hold: at, amount, max_debt } => Command::Settle {
                hold: hold(at),
                charges: vec![Charge {
                    leg: 0,
                    to: platform(AccountKind::Revenue),
                    amount: nanos(amount),
                }],
                max_debt: nanos(max_debt),
                tokens: amount,
            },
            Step::Lot { to, amount, priority, life, promotional } => Command::Grant {
                leg: Leg {
                    from: platform(AccountKind::Grant),
                    to: wallet(to),
                    amount: nanos(amount),
                },
                terms: LotTerms {
                    kind: if promotional { LotKind::Promotional } else { LotKind::Paid },
                    priority,
                    expires_at: life.map(|life| Timestamp::from_micros(self.now + life)),
                },
            },
            Step::ExpireLot { lot } => Command::ExpireLot {
                lot: self.lots.get(lot).copied().unwrap_or(LotId { seq: 1_000_000, leg: 0 }),
            },
            Step::Void { hold: at } => Command::Void { hold: hold(at) },
            Step::Expire { hold: at } => Command::Expire { hold: hold(at), orphaned: false },
            Step::Reverse { step } => Command::Reverse { original: format!("op{step}").into() },
            Step::Repeat { .. } => {
                Command::Renew { holds: Vec::new(), lease_until: Timestamp::from_micros(0) }
            }
        }
    }

    fn claims(&self, of: u8, amount: i64) -> Vec<Claim> {
        let start = self.now / WINDOW * WINDOW;
        let window = Window::Period {
            start: Timestamp::from_micros(start),
            end: Timestamp::from_micros(start + WINDOW),
        };
        let claim = |what: &str, window, measure, amount, limit| Claim {
            counter: format!("org{of}/{what}").into(),
            window,
            measure,
            amount,
            limit: Some(limit),
        };
        vec![
            claim("slots", Window::Standing, Measure::Slots, 1, SLOTS),
            claim("tokens", window, Measure::Tokens, amount, TOKENS),
        ]
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
        match step {
            Step::Hold { .. } if applied => self.holds.push(HoldId(receipt.seq)),
            Step::Lot { .. } => self.lots.push(LotId { seq: receipt.seq, leg: 0 }),
            _ => {}
        }
        if !matches!(receipt.outcome, Outcome::Refused(refusal) if refusal.is_passing()) {
            self.done.push((operation, receipt));
        }
        self.compare()
    }

    /// The same operation again gives the first receipt; another under its id is a conflict.
    fn repeat(&mut self, at: usize) -> Result<(), String> {
        let Some((operation, first)) = self.done.get(at).cloned() else { return Ok(()) };
        let again =
            self.apply(operation.clone()).map_err(|Conflict| "a repeat conflicts".to_owned())?;
        // How counters stood is told once.
        if again != (Receipt { replayed: true, claims: Vec::new(), ..first }) {
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
            sum += self.balance(&wallet(of).sibling(AccountKind::Breakage)).0;
        }
        self.compare_lots()?;
        self.compare_counters()?;
        sum += self.balance(&platform(AccountKind::Grant)).0
            + self.balance(&platform(AccountKind::Revenue)).0;
        if sum != 0 { Err(format!("money was made: the sum is {sum}")) } else { Ok(()) }
    }

    fn compare_lots(&self) -> Result<(), String> {
        for (at, (id, lot)) in self.lots.iter().zip(&self.oracle.lots).enumerate() {
            let account = self.state.account(&wallet(lot.wallet)).map_or(0, |account| account.id);
            let left = self.state.lot(account, *id).map_or(0, |lot| lot.remaining.nanos());
            if left != lot.left {
                return Err(format!("lot {at} has {left} left, expected {}", lot.left));
            }
        }
        Ok(())
    }

    fn compare_counters(&self) -> Result<(), String> {
        for of in 0..3 {
            for (what, start) in [("slots", 0), ("tokens", self.now / WINDOW * WINDOW)] {
                let id = CounterId { counter: format!("org{of}/{what}").into(), start };
                let counter = self.state.counter(&id).unwrap_or_default();
                let expected = self.oracle.counter(of, what, start);
                if (counter.used, counter.held) != expected {
                    return Err(format!("{id:?} is {counter:?}, expected {expected:?}"));
                }
            }
        }
        Ok(())
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
        Sabotage::BurnAtRandom,
        Sabotage::KeepClaims,
        Sabotage::PassLimits,
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
        burns: Vec::new(),
        lots: Vec::new(),
        reversed: false,
    };
    trial.state.originals.insert("op0".into(), original);
    let reverse = |id: &str| Operation::new(id, Command::Reverse { original: "op0".into() });
    let hold = Command::Hold {
        legs: vec![HoldLeg { account: wallet(0), amount: nanos(10) }],
        claims: Vec::new(),
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
        claims: Vec::new(),
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
        tokens: 0,
    };
    let settled = trial.apply(Operation::new("c", settle)).unwrap();
    assert!(matches!(settled.outcome, Outcome::Applied(applied) if applied.amount == nanos(25)));
    assert_eq!((trial.balance(&wallet(0)), trial.balance(&wallet(1))), ((25, 0), (30, 0)));
    assert_eq!(trial.balance(&platform(AccountKind::Revenue)), (15, 0));
}
