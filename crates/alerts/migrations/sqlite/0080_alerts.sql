-- Thresholds of wallets, and whom to tell. `low` is what was last told: 1 from falling to the amount
-- until the wallet is above it again; `as_of_seq` is the operation that it was decided by.
CREATE TABLE alerts_thresholds (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  currency TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  url TEXT NOT NULL,
  secret BLOB NOT NULL,
  low INTEGER NOT NULL,
  as_of_seq INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  version INTEGER NOT NULL
) STRICT;

CREATE INDEX alerts_thresholds_org ON alerts_thresholds (org_id, id);

-- What is told, each written with the change of `low` that it tells of, and what became of it. A row
-- that waits is sent by whoever holds its lease.
CREATE TABLE alerts_deliveries (
  id TEXT NOT NULL PRIMARY KEY,
  alert_id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  body TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  next_at INTEGER NOT NULL,
  give_up_at INTEGER NOT NULL,
  lease_owner TEXT NOT NULL,
  lease_until INTEGER NOT NULL,
  last_status INTEGER,
  last_error TEXT,
  created_at INTEGER NOT NULL,
  ended_at INTEGER
) STRICT;

CREATE INDEX alerts_deliveries_due ON alerts_deliveries (state, next_at);

CREATE INDEX alerts_deliveries_org ON alerts_deliveries (org_id, id);

CREATE INDEX alerts_deliveries_alert ON alerts_deliveries (alert_id, state);

CREATE INDEX alerts_deliveries_ended ON alerts_deliveries (ended_at);
