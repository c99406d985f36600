-- Where the journal stands: one row.
CREATE TABLE ledger_head (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  hash BLOB NOT NULL,
  next_account INTEGER NOT NULL
) STRICT;

INSERT INTO ledger_head (id, seq, at, hash, next_account) VALUES (1, 0, 0, zeroblob(32), 1);

CREATE TABLE ledger_accounts (
  id INTEGER NOT NULL PRIMARY KEY,
  owner TEXT NOT NULL,
  kind TEXT NOT NULL,
  asset TEXT NOT NULL,
  created_seq INTEGER NOT NULL,
  floor INTEGER,
  posted INTEGER NOT NULL,
  held INTEGER NOT NULL CHECK (held >= 0),
  UNIQUE (owner, kind, asset),
  CHECK (floor IS NULL OR posted - held >= floor)
) STRICT;

CREATE INDEX ledger_accounts_created ON ledger_accounts (created_seq);

-- What was done, in order. `hash` continues the hash of the row before.
CREATE TABLE ledger_operations (
  seq INTEGER NOT NULL PRIMARY KEY,
  op_id TEXT NOT NULL,
  kind INTEGER NOT NULL,
  content BLOB NOT NULL,
  memo TEXT,
  outcome INTEGER NOT NULL,
  ref_seq INTEGER,
  leg INTEGER,
  amount INTEGER NOT NULL,
  debt INTEGER NOT NULL,
  written_off INTEGER NOT NULL,
  available INTEGER NOT NULL,
  late INTEGER NOT NULL,
  at INTEGER NOT NULL,
  rows_hash BLOB,
  hash BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX ledger_operations_id ON ledger_operations (op_id);

CREATE TRIGGER ledger_operations_fixed BEFORE UPDATE ON ledger_operations
BEGIN SELECT RAISE(ABORT, 'operations are never changed'); END;

CREATE TRIGGER ledger_operations_kept BEFORE DELETE ON ledger_operations
BEGIN SELECT RAISE(ABORT, 'operations are never deleted'); END;

CREATE TABLE ledger_transfers (
  op_seq INTEGER NOT NULL,
  leg INTEGER NOT NULL,
  debit_account INTEGER NOT NULL,
  credit_account INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount > 0),
  PRIMARY KEY (op_seq, leg)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_transfers_debit ON ledger_transfers (debit_account, op_seq);

CREATE INDEX ledger_transfers_credit ON ledger_transfers (credit_account, op_seq);

CREATE TRIGGER ledger_transfers_fixed BEFORE UPDATE ON ledger_transfers
BEGIN SELECT RAISE(ABORT, 'transfers are never changed'); END;

CREATE TRIGGER ledger_transfers_kept BEFORE DELETE ON ledger_transfers
BEGIN SELECT RAISE(ABORT, 'transfers are never deleted'); END;

-- Money set aside; state 0 open, 1 settled, 2 voided, 3 expired.
CREATE TABLE ledger_holds (
  hold_seq INTEGER NOT NULL,
  leg INTEGER NOT NULL,
  account_id INTEGER NOT NULL,
  opened INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  lease_until INTEGER NOT NULL,
  state INTEGER NOT NULL,
  PRIMARY KEY (hold_seq, leg)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_holds_open ON ledger_holds (lease_until) WHERE state = 0;

-- Which operations were moved back, and by which.
CREATE TABLE ledger_reversals (
  original_seq INTEGER NOT NULL PRIMARY KEY,
  op_seq INTEGER NOT NULL
) STRICT;
