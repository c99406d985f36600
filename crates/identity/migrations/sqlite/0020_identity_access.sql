-- What a change must have seen to count, and when something was deleted.
ALTER TABLE identity_orgs ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

ALTER TABLE identity_users ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE identity_users ADD COLUMN deleted_at INTEGER;
-- Roles beyond the key's own, as a JSON list of names.
ALTER TABLE identity_users ADD COLUMN roles TEXT;

ALTER TABLE identity_apps ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE identity_apps ADD COLUMN deleted_at INTEGER;
ALTER TABLE identity_apps ADD COLUMN roles TEXT;

ALTER TABLE identity_keys ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE identity_keys ADD COLUMN deleted_at INTEGER;
ALTER TABLE identity_keys ADD COLUMN roles TEXT;
-- Scopes, models and addresses, as JSON; null limits nothing.
ALTER TABLE identity_keys ADD COLUMN limits TEXT;

CREATE INDEX identity_keys_user ON identity_keys (user_id, id);
CREATE INDEX identity_keys_app ON identity_keys (app_id, id);

-- The id is what is granted, such as customer.viewer.
CREATE TABLE identity_roles (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0,
  version INTEGER NOT NULL DEFAULT 1,
  created_at INTEGER NOT NULL,
  deleted_at INTEGER
) STRICT;

-- Who may use which routes, beyond what the surfaces declare themselves.
CREATE TABLE identity_rules (
  id TEXT NOT NULL PRIMARY KEY,
  role TEXT NOT NULL,
  method TEXT NOT NULL,
  path TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
