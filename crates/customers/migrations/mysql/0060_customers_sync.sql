-- What changed here, for servers that follow this one. Public rows have an empty org_id.
CREATE TABLE IF NOT EXISTS customers_feed (
  entity VARCHAR(16) NOT NULL,
  id VARCHAR(128) NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  data MEDIUMTEXT NOT NULL,
  hash BINARY(16) NOT NULL,
  deleted BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (entity, id),
  KEY customers_feed_changes (entity, updated_at, id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far each entity follows the upstream, and which instance does it.
CREATE TABLE IF NOT EXISTS sync_state (
  entity VARCHAR(16) NOT NULL PRIMARY KEY,
  since_at BIGINT NOT NULL DEFAULT 0,
  resume_since BIGINT,
  resume_after VARCHAR(128),
  upstream_now BIGINT NOT NULL DEFAULT 0,
  synced_at BIGINT,
  full_at BIGINT,
  failures BIGINT NOT NULL DEFAULT 0,
  last_error TEXT,
  next_at BIGINT NOT NULL DEFAULT 0,
  requested BIGINT NOT NULL DEFAULT 0,
  lease_owner VARCHAR(64) NOT NULL DEFAULT '',
  lease_until BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What the upstream has, as it was last heard.
CREATE TABLE IF NOT EXISTS users_cache (
  id VARCHAR(128) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  data MEDIUMTEXT NOT NULL,
  deleted BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seen VARCHAR(64) NOT NULL,
  KEY users_cache_org (org_id, deleted, id),
  KEY users_cache_seen (deleted, seen)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS pricing_cache (
  id VARCHAR(128) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  data MEDIUMTEXT NOT NULL,
  deleted BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seen VARCHAR(64) NOT NULL,
  KEY pricing_cache_org (org_id, deleted, id),
  KEY pricing_cache_seen (deleted, seen)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS uapi_cache (
  id VARCHAR(128) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  data MEDIUMTEXT NOT NULL,
  deleted BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seen VARCHAR(64) NOT NULL,
  KEY uapi_cache_org (org_id, deleted, id),
  KEY uapi_cache_seen (deleted, seen)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS llmage_cache (
  id VARCHAR(128) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  data MEDIUMTEXT NOT NULL,
  deleted BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  seen VARCHAR(64) NOT NULL,
  KEY llmage_cache_org (org_id, deleted, id),
  KEY llmage_cache_seen (deleted, seen)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
