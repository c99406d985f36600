-- Published definitions: immutable, named by the hash of their text.
CREATE TABLE flow_definitions (
  org_id TEXT NOT NULL,
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (org_id, id)
) STRICT, WITHOUT ROWID;

-- One row per run; its state is the sum of its log.
CREATE TABLE flow_runs (
  id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  definition_id TEXT NOT NULL,
  name TEXT NOT NULL,
  caller TEXT NOT NULL,
  status TEXT NOT NULL,
  owner TEXT,
  wake_at INTEGER,
  budget INTEGER,
  spent INTEGER NOT NULL,
  output TEXT,
  error TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX flow_runs_org ON flow_runs (org_id, id);

CREATE INDEX flow_runs_open ON flow_runs (status, id) WHERE status IN ('queued', 'running', 'cancelling');

CREATE INDEX flow_runs_due ON flow_runs (wake_at) WHERE status = 'waiting' AND wake_at IS NOT NULL;

-- What happened to the runs: a row for each write, holding `count` events from `seq` on.
CREATE TABLE flow_log (
  run_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  count INTEGER NOT NULL,
  at INTEGER NOT NULL,
  cost INTEGER NOT NULL,
  events TEXT NOT NULL,
  PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;

-- Processes that share this database, and until when their runs are theirs.
CREATE TABLE flow_owners (
  id TEXT NOT NULL PRIMARY KEY,
  lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
