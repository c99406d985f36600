-- Where the journal stands: one row.
CREATE TABLE IF NOT EXISTS ledger_head (
  id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
  seq BIGINT NOT NULL,
  at BIGINT NOT NULL,
  hash BINARY(32) NOT NULL,
  next_account BIGINT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO ledger_head (id, seq, at, hash, next_account) VALUES (1, 0, 0, REPEAT(CHAR(0), 32), 1);

CREATE TABLE IF NOT EXISTS ledger_accounts (
  id BIGINT NOT NULL PRIMARY KEY,
  owner VARCHAR(64) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  asset VARCHAR(8) NOT NULL,
  created_seq BIGINT NOT NULL,
  floor BIGINT,
  posted BIGINT NOT NULL,
  held BIGINT NOT NULL CHECK (held >= 0),
  UNIQUE KEY ledger_accounts_key (owner, kind, asset),
  KEY ledger_accounts_created (created_seq),
  CHECK (floor IS NULL OR posted - held >= floor)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What was done, in order. `hash` continues the hash of the row before.
CREATE TABLE IF NOT EXISTS ledger_operations (
  seq BIGINT NOT NULL PRIMARY KEY,
  op_id VARCHAR(128) NOT NULL,
  kind BIGINT NOT NULL,
  content BINARY(16) NOT NULL,
  memo VARCHAR(255),
  outcome BIGINT NOT NULL,
  ref_seq BIGINT,
  leg BIGINT,
  amount BIGINT NOT NULL,
  debt BIGINT NOT NULL,
  written_off BIGINT NOT NULL,
  available BIGINT NOT NULL,
  late BIGINT NOT NULL,
  at BIGINT NOT NULL,
  rows_hash BINARY(16),
  hash BINARY(32) NOT NULL,
  UNIQUE KEY ledger_operations_id (op_id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TRIGGER IF NOT EXISTS ledger_operations_fixed BEFORE UPDATE ON ledger_operations FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'operations are never changed';

CREATE TRIGGER IF NOT EXISTS ledger_operations_kept BEFORE DELETE ON ledger_operations FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'operations are never deleted';

CREATE TABLE IF NOT EXISTS ledger_transfers (
  op_seq BIGINT NOT NULL,
  leg BIGINT NOT NULL,
  debit_account BIGINT NOT NULL,
  credit_account BIGINT NOT NULL,
  amount BIGINT NOT NULL CHECK (amount > 0),
  PRIMARY KEY (op_seq, leg),
  KEY ledger_transfers_debit (debit_account, op_seq),
  KEY ledger_transfers_credit (credit_account, op_seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TRIGGER IF NOT EXISTS ledger_transfers_fixed BEFORE UPDATE ON ledger_transfers FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'transfers are never changed';

CREATE TRIGGER IF NOT EXISTS ledger_transfers_kept BEFORE DELETE ON ledger_transfers FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'transfers are never deleted';

-- Money set aside; state 0 open, 1 settled, 2 voided, 3 expired.
CREATE TABLE IF NOT EXISTS ledger_holds (
  hold_seq BIGINT NOT NULL,
  leg BIGINT NOT NULL,
  account_id BIGINT NOT NULL,
  opened BIGINT NOT NULL,
  amount BIGINT NOT NULL CHECK (amount >= 0),
  lease_until BIGINT NOT NULL,
  state BIGINT NOT NULL,
  PRIMARY KEY (hold_seq, leg),
  KEY ledger_holds_open (state, lease_until)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Which operations were moved back, and by which.
CREATE TABLE IF NOT EXISTS ledger_reversals (
  original_seq BIGINT NOT NULL PRIMARY KEY,
  op_seq BIGINT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
