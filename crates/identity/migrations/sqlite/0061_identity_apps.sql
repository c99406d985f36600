-- What applications sign with, sealed under the server's secret; the one before works on for a while.
CREATE TABLE identity_app_secrets (
  app_id TEXT NOT NULL PRIMARY KEY REFERENCES identity_apps (id),
  sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  old_sealed BLOB,
  old_until INTEGER,
  deerer INTEGER NOT NULL
) STRICT;

-- Signed requests that were answered, where several instances share a database.
CREATE TABLE identity_replays (
  token BLOB NOT NULL PRIMARY KEY,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX identity_replays_until ON identity_replays (until);
