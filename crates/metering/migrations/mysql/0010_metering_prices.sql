-- Price versions, for ever: a charge names the one it was computed from.
DROP TABLE IF EXISTS metering_prices;

CREATE TABLE IF NOT EXISTS metering_price_versions (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  name VARCHAR(255),
  document LONGTEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by VARCHAR(64),
  KEY metering_price_versions_age (created_at, id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Which version counts from when: until the next one starts. Without a version, the configuration's
-- prices count.
CREATE TABLE IF NOT EXISTS metering_price_activations (
  revision BIGINT NOT NULL PRIMARY KEY,
  version_id VARCHAR(64),
  starts_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by VARCHAR(64),
  cancelled_at BIGINT,
  KEY metering_price_activations_start (starts_at, revision),
  KEY metering_price_activations_version (version_id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What prices depend on beside the organization itself.
CREATE TABLE IF NOT EXISTS metering_price_terms (
  org_id VARCHAR(64) NOT NULL PRIMARY KEY,
  distributor_id VARCHAR(64),
  plan VARCHAR(64),
  changed_at BIGINT NOT NULL,
  changed_by VARCHAR(64)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Counts every change of the tables above, so that instances notice it.
CREATE TABLE IF NOT EXISTS metering_price_state (
  id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
  revision BIGINT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO metering_price_state (id, revision) VALUES (1, 0);

-- Units used in a day or month, for prices that depend on them.
CREATE TABLE IF NOT EXISTS metering_counts (
  org_id VARCHAR(64) NOT NULL,
  counter VARCHAR(400) NOT NULL,
  period VARCHAR(16) NOT NULL,
  units BIGINT NOT NULL,
  PRIMARY KEY (org_id, counter, period)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What a charge was computed from beside its price version and tokens, where there is more. Under
-- the journal's hash chain.
CREATE TABLE IF NOT EXISTS metering_charges (
  op_seq BIGINT NOT NULL PRIMARY KEY,
  id VARCHAR(64) NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  basis TEXT NOT NULL,
  UNIQUE KEY metering_charges_id (id),
  KEY metering_charges_org (org_id, op_seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
