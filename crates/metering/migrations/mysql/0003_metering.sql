-- Price versions, for ever: a charge names the one it was computed from.
CREATE TABLE IF NOT EXISTS metering_prices (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  model VARCHAR(255) NOT NULL,
  currency VARCHAR(8) NOT NULL,
  rates TEXT NOT NULL,
  created_at BIGINT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row per metered call, written with the operation that ended it. Never changed: the journal's
-- hash chain covers it.
CREATE TABLE IF NOT EXISTS metering_usage (
  op_seq BIGINT NOT NULL PRIMARY KEY,
  id VARCHAR(64) NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  user_id VARCHAR(64),
  app_id VARCHAR(64),
  key_id VARCHAR(64),
  surface VARCHAR(32) NOT NULL,
  model VARCHAR(255) NOT NULL,
  provider VARCHAR(255),
  upstream_model VARCHAR(255),
  status VARCHAR(16) NOT NULL,
  error_code VARCHAR(64),
  upstream_status BIGINT,
  currency VARCHAR(8) NOT NULL,
  cost BIGINT NOT NULL,
  debt BIGINT NOT NULL,
  written_off BIGINT NOT NULL,
  late BIGINT NOT NULL,
  price_id VARCHAR(64) NOT NULL,
  hold_seq BIGINT NOT NULL,
  held BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  cached_input_tokens BIGINT NOT NULL,
  cache_write_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL,
  usage_source VARCHAR(16) NOT NULL,
  anomalies TEXT,
  raw_usage TEXT,
  stream BIGINT NOT NULL,
  client_gone BIGINT NOT NULL,
  request_id VARCHAR(64) NOT NULL,
  started_at BIGINT NOT NULL,
  first_token_at BIGINT,
  ended_at BIGINT NOT NULL,
  UNIQUE KEY metering_usage_id (id),
  KEY metering_usage_org (org_id, op_seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
