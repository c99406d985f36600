-- Credits that are spent in an order, and may expire: a part of what a wallet has posted.
CREATE TABLE ledger_lots (
  op_seq INTEGER NOT NULL,
  leg INTEGER NOT NULL,
  account_id INTEGER NOT NULL,
  kind TEXT NOT NULL,
  priority INTEGER NOT NULL,
  expires_at INTEGER,
  granted INTEGER NOT NULL CHECK (granted > 0),
  remaining INTEGER NOT NULL CHECK (remaining >= 0 AND remaining <= granted),
  PRIMARY KEY (op_seq, leg)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_lots_account ON ledger_lots (account_id, op_seq);

CREATE INDEX ledger_lots_left ON ledger_lots (account_id) WHERE remaining > 0;

CREATE INDEX ledger_lots_expiry ON ledger_lots (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;

-- What each operation took from which lot; below zero was given back.
CREATE TABLE ledger_burns (
  op_seq INTEGER NOT NULL,
  position INTEGER NOT NULL,
  lot_seq INTEGER NOT NULL,
  lot_leg INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount <> 0),
  PRIMARY KEY (op_seq, position)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_burns_fixed BEFORE UPDATE ON ledger_burns
BEGIN SELECT RAISE(ABORT, 'burns are never changed'); END;

CREATE TRIGGER ledger_burns_kept BEFORE DELETE ON ledger_burns
BEGIN SELECT RAISE(ABORT, 'burns are never deleted'); END;

-- How much of a limit is used. Old windows are deleted.
CREATE TABLE ledger_counters (
  counter TEXT NOT NULL,
  starts_at INTEGER NOT NULL,
  ends_at INTEGER NOT NULL,
  used INTEGER NOT NULL CHECK (used >= 0),
  held INTEGER NOT NULL CHECK (held >= 0),
  PRIMARY KEY (counter, starts_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_counters_end ON ledger_counters (ends_at);

-- The claims of open holds on counters; deleted when the hold ends.
CREATE TABLE ledger_claims (
  hold_seq INTEGER NOT NULL PRIMARY KEY,
  claims TEXT NOT NULL
) STRICT;
