//! Money: accounts, double entries, two-phase holds, and the journal they are written by.

mod model;

pub use model::{
    AccountKey, AccountKind, Applied, Attachment, Balance, Cell, Charge, Command, HoldId, HoldLeg,
    Leg, Operation, Outcome, Receipt, Refusal, Table, Unit,
};
