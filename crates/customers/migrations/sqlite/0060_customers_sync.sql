-- What changed here, for servers that follow this one. Public rows have an empty org_id.
CREATE TABLE customers_feed (
  entity TEXT NOT NULL,
  id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  data TEXT NOT NULL,
  hash BLOB NOT NULL,
  deleted INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (entity, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX customers_feed_changes ON customers_feed (entity, updated_at, id);

-- How far each entity follows the upstream, and which instance does it.
CREATE TABLE sync_state (
  entity TEXT NOT NULL PRIMARY KEY,
  since_at INTEGER NOT NULL DEFAULT 0,
  resume_since INTEGER,
  resume_after TEXT,
  upstream_now INTEGER NOT NULL DEFAULT 0,
  synced_at INTEGER,
  full_at INTEGER,
  failures INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  next_at INTEGER NOT NULL DEFAULT 0,
  requested INTEGER NOT NULL DEFAULT 0,
  lease_owner TEXT NOT NULL DEFAULT '',
  lease_until INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What the upstream has, as it was last heard.
CREATE TABLE users_cache (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  data TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  seen TEXT NOT NULL
) STRICT;

CREATE INDEX users_cache_org ON users_cache (org_id, deleted, id);

CREATE INDEX users_cache_seen ON users_cache (deleted, seen);

CREATE TABLE pricing_cache (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  data TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  seen TEXT NOT NULL
) STRICT;

CREATE INDEX pricing_cache_org ON pricing_cache (org_id, deleted, id);

CREATE INDEX pricing_cache_seen ON pricing_cache (deleted, seen);

CREATE TABLE uapi_cache (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  data TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  seen TEXT NOT NULL
) STRICT;

CREATE INDEX uapi_cache_org ON uapi_cache (org_id, deleted, id);

CREATE INDEX uapi_cache_seen ON uapi_cache (deleted, seen);

CREATE TABLE llmage_cache (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  data TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  seen TEXT NOT NULL
) STRICT;

CREATE INDEX llmage_cache_org ON llmage_cache (org_id, deleted, id);

CREATE INDEX llmage_cache_seen ON llmage_cache (deleted, seen);
