-- Credits that are spent in an order, and may expire: a part of what a wallet has posted.
CREATE TABLE IF NOT EXISTS ledger_lots (
  op_seq BIGINT NOT NULL,
  leg BIGINT NOT NULL,
  account_id BIGINT NOT NULL,
  kind VARCHAR(16) NOT NULL,
  priority BIGINT NOT NULL,
  expires_at BIGINT,
  granted BIGINT NOT NULL CHECK (granted > 0),
  remaining BIGINT NOT NULL CHECK (remaining >= 0),
  PRIMARY KEY (op_seq, leg),
  KEY ledger_lots_account (account_id, op_seq),
  KEY ledger_lots_left (account_id, remaining),
  KEY ledger_lots_expiry (expires_at, remaining),
  CHECK (remaining <= granted)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What each operation took from which lot; below zero was given back.
CREATE TABLE IF NOT EXISTS ledger_burns (
  op_seq BIGINT NOT NULL,
  position BIGINT NOT NULL,
  lot_seq BIGINT NOT NULL,
  lot_leg BIGINT NOT NULL,
  amount BIGINT NOT NULL CHECK (amount <> 0),
  PRIMARY KEY (op_seq, position)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TRIGGER IF NOT EXISTS ledger_burns_fixed BEFORE UPDATE ON ledger_burns FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'burns are never changed';

CREATE TRIGGER IF NOT EXISTS ledger_burns_kept BEFORE DELETE ON ledger_burns FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'burns are never deleted';

-- How much of a limit is used. Old windows are deleted.
CREATE TABLE IF NOT EXISTS ledger_counters (
  counter VARCHAR(160) NOT NULL,
  starts_at BIGINT NOT NULL,
  ends_at BIGINT NOT NULL,
  used BIGINT NOT NULL CHECK (used >= 0),
  held BIGINT NOT NULL CHECK (held >= 0),
  PRIMARY KEY (counter, starts_at),
  KEY ledger_counters_end (ends_at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The claims of open holds on counters; deleted when the hold ends.
CREATE TABLE IF NOT EXISTS ledger_claims (
  hold_seq BIGINT NOT NULL PRIMARY KEY,
  claims TEXT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
