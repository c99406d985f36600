-- Price versions, for ever: a charge names the one it was computed from.
DROP TABLE metering_prices;

CREATE TABLE metering_price_versions (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT,
  document TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT
) STRICT;

CREATE INDEX metering_price_versions_age ON metering_price_versions (created_at, id);

-- Which version counts from when: until the next one starts. Without a version, the configuration's
-- prices count.
CREATE TABLE metering_price_activations (
  revision INTEGER NOT NULL PRIMARY KEY,
  version_id TEXT,
  starts_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT,
  cancelled_at INTEGER
) STRICT;

CREATE INDEX metering_price_activations_start ON metering_price_activations (starts_at, revision);

CREATE INDEX metering_price_activations_version ON metering_price_activations (version_id);

-- What prices depend on beside the organization itself.
CREATE TABLE metering_price_terms (
  org_id TEXT NOT NULL PRIMARY KEY,
  distributor_id TEXT,
  plan TEXT,
  changed_at INTEGER NOT NULL,
  changed_by TEXT
) STRICT;

-- Counts every change of the tables above, so that instances notice it.
CREATE TABLE metering_price_state (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL
) STRICT;

INSERT INTO metering_price_state (id, revision) VALUES (1, 0);

-- Units used in a day or month, for prices that depend on them.
CREATE TABLE metering_counts (
  org_id TEXT NOT NULL,
  counter TEXT NOT NULL,
  period TEXT NOT NULL,
  units INTEGER NOT NULL,
  PRIMARY KEY (org_id, counter, period)
) STRICT, WITHOUT ROWID;

-- What a charge was computed from beside its price version and tokens, where there is more. Under
-- the journal's hash chain.
CREATE TABLE metering_charges (
  op_seq INTEGER NOT NULL PRIMARY KEY,
  id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  basis TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX metering_charges_id ON metering_charges (id);

CREATE INDEX metering_charges_org ON metering_charges (org_id, op_seq);
