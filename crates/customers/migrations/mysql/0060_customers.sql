-- Movements posted by customers' servers, each written with its operation. Never changed: the
-- journal's hash chain covers them.
CREATE TABLE IF NOT EXISTS accounting_records (
  op_seq BIGINT NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  posted_by VARCHAR(64) NOT NULL,
  app_id VARCHAR(64),
  key_id VARCHAR(64),
  transno VARCHAR(64) NOT NULL,
  user_id VARCHAR(64) NOT NULL,
  llmid VARCHAR(64) NOT NULL,
  currency VARCHAR(8) NOT NULL,
  amount BIGINT NOT NULL,
  usage_json MEDIUMTEXT,
  at BIGINT NOT NULL,
  KEY accounting_records_org (org_id, op_seq),
  KEY accounting_records_amount (org_id, amount, op_seq),
  KEY accounting_records_user (org_id, user_id, op_seq),
  KEY accounting_records_transno (org_id, transno, op_seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
