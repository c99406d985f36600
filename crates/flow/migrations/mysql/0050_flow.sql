-- Published definitions: immutable, named by the hash of their text.
CREATE TABLE IF NOT EXISTS flow_definitions (
  org_id VARCHAR(64) NOT NULL,
  id CHAR(64) NOT NULL,
  name VARCHAR(255) NOT NULL,
  text MEDIUMTEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row per run; its state is the sum of its log.
CREATE TABLE IF NOT EXISTS flow_runs (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  definition_id CHAR(64) NOT NULL,
  name VARCHAR(255) NOT NULL,
  caller TEXT NOT NULL,
  status VARCHAR(16) NOT NULL,
  owner VARCHAR(64),
  wake_at BIGINT,
  budget BIGINT,
  spent BIGINT NOT NULL,
  output MEDIUMTEXT,
  error TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  KEY flow_runs_org (org_id, id),
  KEY flow_runs_open (status, id),
  KEY flow_runs_due (status, wake_at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What happened to the runs: a row for each write, holding `count` events from `seq` on.
CREATE TABLE IF NOT EXISTS flow_log (
  run_id VARCHAR(64) NOT NULL,
  seq BIGINT NOT NULL,
  count BIGINT NOT NULL,
  at BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  events MEDIUMTEXT NOT NULL,
  PRIMARY KEY (run_id, seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Processes that share this database, and until when their runs are theirs.
CREATE TABLE IF NOT EXISTS flow_owners (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  lease_until BIGINT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
