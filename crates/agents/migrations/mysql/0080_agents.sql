-- Workflows as their owners know them; what runs is the definition.
CREATE TABLE IF NOT EXISTS agents_workflows (
  workflow_id VARCHAR(128) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  owner VARCHAR(64) NOT NULL,
  name VARCHAR(200) NOT NULL,
  description TEXT NOT NULL,
  version VARCHAR(64) NOT NULL,
  config_path VARCHAR(512),
  loaded_at BIGINT NOT NULL,
  last_used BIGINT,
  usage_count BIGINT NOT NULL,
  config_data MEDIUMTEXT,
  definition_id VARCHAR(64),
  nodes MEDIUMTEXT NOT NULL,
  edges MEDIUMTEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  search TEXT NOT NULL,
  KEY agents_workflows_org (org_id, loaded_at, workflow_id),
  KEY agents_workflows_path (org_id, config_path),
  KEY agents_workflows_changed (updated_at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Sessions, and the unlisted ones of runs that were given none.
CREATE TABLE IF NOT EXISTS agents_sessions (
  session_id VARCHAR(128) NOT NULL PRIMARY KEY,
  org_id VARCHAR(64) NOT NULL,
  owner VARCHAR(64) NOT NULL,
  listed BIGINT NOT NULL,
  workflow_config_path VARCHAR(512) NOT NULL,
  workflow_id VARCHAR(128),
  status VARCHAR(16) NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  agent_config MEDIUMTEXT,
  metadata MEDIUMTEXT,
  state MEDIUMTEXT NOT NULL,
  version BIGINT NOT NULL,
  history_seq BIGINT NOT NULL,
  history_from BIGINT NOT NULL,
  recorded_at BIGINT NOT NULL,
  search TEXT NOT NULL,
  KEY agents_sessions_org (org_id, listed, created_at, session_id),
  KEY agents_sessions_changed (updated_at),
  KEY agents_sessions_recorded (recorded_at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- States of sessions that were saved, the newest of which is restored.
CREATE TABLE IF NOT EXISTS agents_snapshots (
  session_id VARCHAR(128) NOT NULL,
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  state MEDIUMTEXT NOT NULL,
  PRIMARY KEY (session_id, number)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Carryings out of workflows: which run it is, and how much of its log is in the history.
CREATE TABLE IF NOT EXISTS agents_runs (
  execution_id VARCHAR(128) NOT NULL PRIMARY KEY,
  run_id VARCHAR(64) NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  owner VARCHAR(64) NOT NULL,
  workflow_id VARCHAR(128) NOT NULL,
  session_id VARCHAR(128) NOT NULL,
  start_key VARCHAR(255),
  fingerprint VARCHAR(64) NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at BIGINT,
  deadline BIGINT,
  stopped VARCHAR(32),
  carried BIGINT NOT NULL,
  recorded BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  look_at BIGINT,
  UNIQUE KEY agents_runs_run (run_id),
  UNIQUE KEY agents_runs_key (org_id, start_key),
  KEY agents_runs_workflow (workflow_id, started_at, execution_id),
  KEY agents_runs_open (look_at)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What happened in sessions, one JSON object a row, in the order it was written.
CREATE TABLE IF NOT EXISTS agents_history (
  session_id VARCHAR(128) NOT NULL,
  seq BIGINT NOT NULL,
  org_id VARCHAR(64) NOT NULL,
  owner VARCHAR(64) NOT NULL,
  at BIGINT NOT NULL,
  record_type VARCHAR(32) NOT NULL,
  body MEDIUMTEXT NOT NULL,
  PRIMARY KEY (session_id, seq),
  KEY agents_history_type (session_id, record_type, seq),
  KEY agents_history_time (session_id, at, seq),
  KEY agents_history_org (org_id, at, session_id, seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The searchable texts of the history, many records a row; those not here yet are the last ones. Bytes
-- are looked through ten times as fast as characters.
CREATE TABLE IF NOT EXISTS agents_search (
  session_id VARCHAR(128) NOT NULL,
  last_seq BIGINT NOT NULL,
  text MEDIUMBLOB NOT NULL,
  PRIMARY KEY (session_id, last_seq)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Figures by hour, of each session and, with an empty session, of all of an owner's.
CREATE TABLE IF NOT EXISTS agents_figures (
  org_id VARCHAR(64) NOT NULL,
  session_id VARCHAR(128) NOT NULL,
  hour BIGINT NOT NULL,
  kind VARCHAR(24) NOT NULL,
  name VARCHAR(200) NOT NULL,
  owner VARCHAR(64) NOT NULL,
  number BIGINT NOT NULL,
  total BIGINT NOT NULL,
  least BIGINT NOT NULL,
  most BIGINT NOT NULL,
  PRIMARY KEY (org_id, session_id, hour, kind, name, owner)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS agents_bookmarks (
  org_id VARCHAR(64) NOT NULL,
  owner VARCHAR(64) NOT NULL,
  bookmark_id VARCHAR(200) NOT NULL,
  session_id VARCHAR(128) NOT NULL,
  message_id VARCHAR(128) NOT NULL,
  note MEDIUMTEXT,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, owner, bookmark_id),
  KEY agents_bookmarks_time (org_id, created_at, bookmark_id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
