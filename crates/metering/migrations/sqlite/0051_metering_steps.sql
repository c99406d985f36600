-- Which step of which run a call was, for calls that flows make. Written with the usage record and
-- covered like it; whose it is, the usage record says.
CREATE TABLE metering_steps (
  op_seq INTEGER NOT NULL PRIMARY KEY,
  run_id TEXT NOT NULL,
  step INTEGER NOT NULL
) STRICT;

CREATE INDEX metering_steps_run ON metering_steps (run_id, op_seq);
