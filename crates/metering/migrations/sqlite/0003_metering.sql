-- Price versions, for ever: a charge names the one it was computed from.
CREATE TABLE metering_prices (
  id TEXT NOT NULL PRIMARY KEY,
  model TEXT NOT NULL,
  currency TEXT NOT NULL,
  rates TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

-- One row per metered call, written with the operation that ended it. Never changed: the journal's
-- hash chain covers it.
CREATE TABLE metering_usage (
  op_seq INTEGER NOT NULL PRIMARY KEY,
  id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  user_id TEXT,
  app_id TEXT,
  key_id TEXT,
  surface TEXT NOT NULL,
  model TEXT NOT NULL,
  provider TEXT,
  upstream_model TEXT,
  status TEXT NOT NULL,
  error_code TEXT,
  upstream_status INTEGER,
  currency TEXT NOT NULL,
  cost INTEGER NOT NULL,
  debt INTEGER NOT NULL,
  written_off INTEGER NOT NULL,
  late INTEGER NOT NULL,
  price_id TEXT NOT NULL,
  hold_seq INTEGER NOT NULL,
  held INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cached_input_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  usage_source TEXT NOT NULL,
  anomalies TEXT,
  raw_usage TEXT,
  stream INTEGER NOT NULL,
  client_gone INTEGER NOT NULL,
  request_id TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  first_token_at INTEGER,
  ended_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX metering_usage_id ON metering_usage (id);

CREATE INDEX metering_usage_org ON metering_usage (org_id, op_seq);
