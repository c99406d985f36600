-- Thresholds of wallets, and whom to tell. `low` is what was last told: 1 from falling to the amount
-- until the wallet is above it again; `as_of_seq` is the operation that it was decided by.
CREATE TABLE IF NOT EXISTS alerts_thresholds (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  currency VARCHAR(8) NOT NULL,
  amount BIGINT NOT NULL CHECK (amount >= 0),
  url TEXT NOT NULL,
  secret VARBINARY(255) NOT NULL,
  low BIGINT NOT NULL,
  as_of_seq BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  KEY alerts_thresholds_org (org_id, id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What is told, each written with the change of `low` that it tells of, and what became of it. A row
-- that waits is sent by whoever holds its lease.
CREATE TABLE IF NOT EXISTS alerts_deliveries (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  alert_id VARCHAR(64) NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  body TEXT NOT NULL,
  state VARCHAR(16) NOT NULL,
  attempts BIGINT NOT NULL,
  next_at BIGINT NOT NULL,
  give_up_at BIGINT NOT NULL,
  lease_owner VARCHAR(64) NOT NULL,
  lease_until BIGINT NOT NULL,
  last_status BIGINT,
  last_error TEXT,
  created_at BIGINT NOT NULL,
  ended_at BIGINT,
  KEY alerts_deliveries_due (state, next_at),
  KEY alerts_deliveries_org (org_id, id),
  KEY alerts_deliveries_alert (alert_id, state),
  KEY alerts_deliveries_ended (ended_at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
