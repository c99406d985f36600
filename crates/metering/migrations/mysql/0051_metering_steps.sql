-- Which step of which run a call was, for calls that flows make. Written with the usage record and
-- covered like it; whose it is, the usage record says.
CREATE TABLE IF NOT EXISTS metering_steps (
  op_seq BIGINT NOT NULL PRIMARY KEY,
  run_id VARCHAR(64) NOT NULL,
  step BIGINT NOT NULL,
  KEY metering_steps_run (run_id, op_seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
