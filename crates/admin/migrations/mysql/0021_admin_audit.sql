-- What administrators did. Rows are only ever added, each in the transaction of what it tells of.
CREATE TABLE IF NOT EXISTS admin_audit (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  at BIGINT NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  user_id VARCHAR(64),
  app_id VARCHAR(64),
  key_id VARCHAR(64),
  ip VARCHAR(64),
  request_id VARCHAR(64) NOT NULL,
  action VARCHAR(64) NOT NULL,
  target_id VARCHAR(64) NOT NULL,
  target_org_id VARCHAR(64),
  state_before MEDIUMTEXT,
  state_after MEDIUMTEXT,
  KEY admin_audit_at (at, id),
  KEY admin_audit_key (key_id, at, id),
  KEY admin_audit_user (user_id, at, id),
  KEY admin_audit_action (action, at, id),
  KEY admin_audit_target (target_id, at, id),
  KEY admin_audit_target_org (target_org_id, at, id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Outcomes of requests with an Idempotency-Key, kept for a day. Of the key only a hash.
CREATE TABLE IF NOT EXISTS admin_outcomes (
  key_hash BINARY(32) NOT NULL PRIMARY KEY,
  request_hash BINARY(32) NOT NULL,
  made MEDIUMTEXT NOT NULL,
  at BIGINT NOT NULL,
  KEY admin_outcomes_at (at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
