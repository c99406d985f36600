-- Sums over usage records, written with each record. They follow from the records: `ledgerline verify`
-- compares them, `ledgerline rebuild` makes them anew. `first_seq` and `last_seq` say between which
-- operations their calls ended.

-- An hour (UTC, microseconds) of an organization's calls, by model and caller; '' is nobody.
CREATE TABLE metering_hours (
  org_id TEXT NOT NULL,
  hour INTEGER NOT NULL,
  model TEXT NOT NULL,
  currency TEXT NOT NULL,
  user_id TEXT NOT NULL,
  app_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  calls INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  released INTEGER NOT NULL,
  cost INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cached_input_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  PRIMARY KEY (org_id, hour, model, currency, user_id, app_id, key_id)
) STRICT, WITHOUT ROWID;

INSERT INTO metering_hours (org_id, hour, model, currency, user_id, app_id, key_id,
    calls, failed, released, cost, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, first_seq, last_seq)
  SELECT org_id, ended_at - ended_at % 3600000000, model, currency, COALESCE(user_id, ''), COALESCE(app_id, ''), COALESCE(key_id, ''),
    COUNT(*),
    SUM(CASE WHEN error_code IS NOT NULL THEN 1 ELSE 0 END),
    SUM(CASE WHEN status = 'released' THEN 1 ELSE 0 END),
    SUM(cost),
    SUM(CASE WHEN input_tokens > 1000000000000 THEN 1000000000000 ELSE input_tokens END),
    SUM(CASE WHEN cached_input_tokens > 1000000000000 THEN 1000000000000 ELSE cached_input_tokens END),
    SUM(CASE WHEN cache_write_tokens > 1000000000000 THEN 1000000000000 ELSE cache_write_tokens END),
    SUM(CASE WHEN output_tokens > 1000000000000 THEN 1000000000000 ELSE output_tokens END),
    SUM(CASE WHEN reasoning_tokens > 1000000000000 THEN 1000000000000 ELSE reasoning_tokens END),
    MIN(op_seq),
    MAX(op_seq)
  FROM metering_usage GROUP BY org_id, ended_at - ended_at % 3600000000, model, currency, COALESCE(user_id, ''), COALESCE(app_id, ''), COALESCE(key_id, '');

-- A day (UTC) of calls, by organization and provider.
CREATE TABLE metering_days (
  day INTEGER NOT NULL,
  org_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  currency TEXT NOT NULL,
  calls INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  released INTEGER NOT NULL,
  cost INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cached_input_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  PRIMARY KEY (day, org_id, provider, currency)
) STRICT, WITHOUT ROWID;

INSERT INTO metering_days (day, org_id, provider, currency,
    calls, failed, released, cost, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, first_seq, last_seq)
  SELECT ended_at - ended_at % 86400000000, org_id, COALESCE(provider, ''), currency,
    COUNT(*),
    SUM(CASE WHEN error_code IS NOT NULL THEN 1 ELSE 0 END),
    SUM(CASE WHEN status = 'released' THEN 1 ELSE 0 END),
    SUM(cost),
    SUM(CASE WHEN input_tokens > 1000000000000 THEN 1000000000000 ELSE input_tokens END),
    SUM(CASE WHEN cached_input_tokens > 1000000000000 THEN 1000000000000 ELSE cached_input_tokens END),
    SUM(CASE WHEN cache_write_tokens > 1000000000000 THEN 1000000000000 ELSE cache_write_tokens END),
    SUM(CASE WHEN output_tokens > 1000000000000 THEN 1000000000000 ELSE output_tokens END),
    SUM(CASE WHEN reasoning_tokens > 1000000000000 THEN 1000000000000 ELSE reasoning_tokens END),
    MIN(op_seq),
    MAX(op_seq)
  FROM metering_usage GROUP BY ended_at - ended_at % 86400000000, org_id, COALESCE(provider, ''), currency;

-- An hour of everybody's calls, by model and provider.
CREATE TABLE metering_totals (
  hour INTEGER NOT NULL,
  model TEXT NOT NULL,
  provider TEXT NOT NULL,
  currency TEXT NOT NULL,
  calls INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  released INTEGER NOT NULL,
  cost INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cached_input_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  PRIMARY KEY (hour, model, provider, currency)
) STRICT, WITHOUT ROWID;

INSERT INTO metering_totals (hour, model, provider, currency,
    calls, failed, released, cost, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, first_seq, last_seq)
  SELECT ended_at - ended_at % 3600000000, model, COALESCE(provider, ''), currency,
    COUNT(*),
    SUM(CASE WHEN error_code IS NOT NULL THEN 1 ELSE 0 END),
    SUM(CASE WHEN status = 'released' THEN 1 ELSE 0 END),
    SUM(cost),
    SUM(CASE WHEN input_tokens > 1000000000000 THEN 1000000000000 ELSE input_tokens END),
    SUM(CASE WHEN cached_input_tokens > 1000000000000 THEN 1000000000000 ELSE cached_input_tokens END),
    SUM(CASE WHEN cache_write_tokens > 1000000000000 THEN 1000000000000 ELSE cache_write_tokens END),
    SUM(CASE WHEN output_tokens > 1000000000000 THEN 1000000000000 ELSE output_tokens END),
    SUM(CASE WHEN reasoning_tokens > 1000000000000 THEN 1000000000000 ELSE reasoning_tokens END),
    MIN(op_seq),
    MAX(op_seq)
  FROM metering_usage GROUP BY ended_at - ended_at % 3600000000, model, COALESCE(provider, ''), currency;

-- For finding a call by the id its client knows, and the few that failed.
CREATE INDEX metering_usage_request ON metering_usage (request_id);

CREATE INDEX metering_usage_error ON metering_usage (error_code) WHERE error_code IS NOT NULL;
