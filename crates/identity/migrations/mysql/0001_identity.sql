CREATE TABLE IF NOT EXISTS identity_settings (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS identity_orgs (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  name VARCHAR(200) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  disabled BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  CHECK (kind IN ('platform', 'customer', 'distributor', 'provider'))
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS identity_users (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  name VARCHAR(200) NOT NULL,
  disabled BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  KEY identity_users_org (org_id, id),
  FOREIGN KEY (org_id) REFERENCES identity_orgs (id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS identity_apps (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  name VARCHAR(200) NOT NULL,
  disabled BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  KEY identity_apps_org (org_id, id),
  FOREIGN KEY (org_id) REFERENCES identity_orgs (id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Only the keyed hash of a key is stored; its first characters are shown in lists.
CREATE TABLE IF NOT EXISTS identity_keys (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  user_id VARCHAR(64),
  app_id VARCHAR(64),
  name VARCHAR(200) NOT NULL,
  role VARCHAR(16) NOT NULL,
  prefix VARCHAR(16) NOT NULL,
  hash BINARY(32) NOT NULL,
  disabled BIGINT NOT NULL DEFAULT 0,
  expires_at BIGINT,
  created_at BIGINT NOT NULL,
  last_used_at BIGINT,
  UNIQUE KEY identity_keys_hash (hash),
  KEY identity_keys_org (org_id, id),
  FOREIGN KEY (org_id) REFERENCES identity_orgs (id),
  FOREIGN KEY (user_id) REFERENCES identity_users (id),
  FOREIGN KEY (app_id) REFERENCES identity_apps (id),
  CHECK (role IN ('member', 'admin'))
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
