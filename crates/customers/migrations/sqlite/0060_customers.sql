-- Movements posted by customers' servers, each written with its operation. Never changed: the
-- journal's hash chain covers them.
CREATE TABLE accounting_records (
  op_seq INTEGER NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  posted_by TEXT NOT NULL,
  app_id TEXT,
  key_id TEXT,
  transno TEXT NOT NULL,
  user_id TEXT NOT NULL,
  llmid TEXT NOT NULL,
  currency TEXT NOT NULL,
  amount INTEGER NOT NULL,
  usage_json TEXT,
  at INTEGER NOT NULL
) STRICT;

CREATE INDEX accounting_records_org ON accounting_records (org_id, op_seq);

CREATE INDEX accounting_records_amount ON accounting_records (org_id, amount, op_seq);

CREATE INDEX accounting_records_user ON accounting_records (org_id, user_id, op_seq);

CREATE INDEX accounting_records_transno ON accounting_records (org_id, transno, op_seq);
