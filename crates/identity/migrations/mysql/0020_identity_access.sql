-- What a change must have seen to count, and when something was deleted.
ALTER TABLE identity_orgs ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- Roles beyond the key's own, as a JSON list of names.
ALTER TABLE identity_users
  ADD COLUMN version BIGINT NOT NULL DEFAULT 1,
  ADD COLUMN deleted_at BIGINT,
  ADD COLUMN roles TEXT;

ALTER TABLE identity_apps
  ADD COLUMN version BIGINT NOT NULL DEFAULT 1,
  ADD COLUMN deleted_at BIGINT,
  ADD COLUMN roles TEXT;

-- Limits: scopes, models and addresses, as JSON; null limits nothing.
ALTER TABLE identity_keys
  ADD COLUMN version BIGINT NOT NULL DEFAULT 1,
  ADD COLUMN deleted_at BIGINT,
  ADD COLUMN roles TEXT,
  ADD COLUMN limits TEXT,
  ADD KEY identity_keys_user (user_id, id),
  ADD KEY identity_keys_app (app_id, id);

-- The id is what is granted, such as customer.viewer.
CREATE TABLE IF NOT EXISTS identity_roles (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  name VARCHAR(200) NOT NULL,
  disabled BIGINT NOT NULL DEFAULT 0,
  version BIGINT NOT NULL DEFAULT 1,
  created_at BIGINT NOT NULL,
  deleted_at BIGINT
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Who may use which routes, beyond what the surfaces declare themselves.
CREATE TABLE IF NOT EXISTS identity_rules (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  role VARCHAR(64) NOT NULL,
  method VARCHAR(16) NOT NULL,
  path VARCHAR(200) NOT NULL,
  created_at BIGINT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
