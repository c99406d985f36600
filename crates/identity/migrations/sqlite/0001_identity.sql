CREATE TABLE identity_settings (
  name TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

CREATE TABLE identity_orgs (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('platform', 'customer', 'distributor', 'provider')),
  disabled INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE identity_users (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL REFERENCES identity_orgs (id),
  name TEXT NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX identity_users_org ON identity_users (org_id, id);

CREATE TABLE identity_apps (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL REFERENCES identity_orgs (id),
  name TEXT NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX identity_apps_org ON identity_apps (org_id, id);

-- Only the keyed hash of a key is stored; its first characters are shown in lists.
CREATE TABLE identity_keys (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL REFERENCES identity_orgs (id),
  user_id TEXT REFERENCES identity_users (id),
  app_id TEXT REFERENCES identity_apps (id),
  name TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('member', 'admin')),
  prefix TEXT NOT NULL,
  hash BLOB NOT NULL UNIQUE,
  disabled INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER,
  created_at INTEGER NOT NULL,
  last_used_at INTEGER
) STRICT;

CREATE INDEX identity_keys_org ON identity_keys (org_id, id);
