-- What the operator alone sees of a call: its attempts, where there was more than one, and what the
-- upstream asked for, where that is known. Written with the usage record and covered like it.
CREATE TABLE IF NOT EXISTS metering_attempts (
  op_seq BIGINT NOT NULL PRIMARY KEY,
  id VARCHAR(64) NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  attempts TEXT,
  purchase_cost BIGINT,
  purchase_currency VARCHAR(8)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
