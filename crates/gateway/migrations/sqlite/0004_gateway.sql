-- Answers of calls that came with an Idempotency-Key, kept for a day so that a repeated request
-- gets the same answer.
CREATE TABLE gateway_answers (
  charge_id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  content_type TEXT NOT NULL,
  body BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX gateway_answers_created ON gateway_answers (created_at);
