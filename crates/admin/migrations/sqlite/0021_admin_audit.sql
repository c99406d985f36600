-- What administrators did. Rows are only ever added, each in the transaction of what it tells of.
CREATE TABLE admin_audit (
  id TEXT NOT NULL PRIMARY KEY,
  at INTEGER NOT NULL,
  org_id TEXT NOT NULL,
  user_id TEXT,
  app_id TEXT,
  key_id TEXT,
  ip TEXT,
  request_id TEXT NOT NULL,
  action TEXT NOT NULL,
  target_id TEXT NOT NULL,
  target_org_id TEXT,
  state_before TEXT,
  state_after TEXT
) STRICT;

CREATE INDEX admin_audit_at ON admin_audit (at, id);
CREATE INDEX admin_audit_key ON admin_audit (key_id, at, id);
CREATE INDEX admin_audit_user ON admin_audit (user_id, at, id);
CREATE INDEX admin_audit_action ON admin_audit (action, at, id);
CREATE INDEX admin_audit_target ON admin_audit (target_id, at, id);
CREATE INDEX admin_audit_target_org ON admin_audit (target_org_id, at, id);

-- Outcomes of requests with an Idempotency-Key, kept for a day. Of the key only a hash.
CREATE TABLE admin_outcomes (
  key_hash BLOB NOT NULL PRIMARY KEY,
  request_hash BLOB NOT NULL,
  made TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;

CREATE INDEX admin_outcomes_at ON admin_outcomes (at);
