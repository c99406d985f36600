-- What the operator alone sees of a call: its attempts, where there was more than one, and what the
-- upstream asked for, where that is known. Written with the usage record and covered like it.
CREATE TABLE metering_attempts (
  op_seq INTEGER NOT NULL PRIMARY KEY,
  id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  attempts TEXT,
  purchase_cost INTEGER,
  purchase_currency TEXT
) STRICT;
