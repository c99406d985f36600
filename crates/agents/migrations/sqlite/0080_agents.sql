-- Workflows as their owners know them; what runs is the definition.
CREATE TABLE agents_workflows (
  workflow_id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  version TEXT NOT NULL,
  config_path TEXT,
  loaded_at INTEGER NOT NULL,
  last_used INTEGER,
  usage_count INTEGER NOT NULL,
  config_data TEXT,
  definition_id TEXT,
  nodes TEXT NOT NULL,
  edges TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  search TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_workflows_org ON agents_workflows (org_id, loaded_at, workflow_id);

CREATE INDEX agents_workflows_path ON agents_workflows (org_id, config_path);

CREATE INDEX agents_workflows_changed ON agents_workflows (updated_at);

-- Sessions, and the unlisted ones of runs that were given none.
CREATE TABLE agents_sessions (
  session_id TEXT NOT NULL PRIMARY KEY,
  org_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  listed INTEGER NOT NULL,
  workflow_config_path TEXT NOT NULL,
  workflow_id TEXT,
  status TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  agent_config TEXT,
  metadata TEXT,
  state TEXT NOT NULL,
  version INTEGER NOT NULL,
  history_seq INTEGER NOT NULL,
  history_from INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL,
  search TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_sessions_org ON agents_sessions (org_id, listed, created_at, session_id);

CREATE INDEX agents_sessions_changed ON agents_sessions (updated_at);

CREATE INDEX agents_sessions_recorded ON agents_sessions (recorded_at);

-- States of sessions that were saved, the newest of which is restored.
CREATE TABLE agents_snapshots (
  session_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  at INTEGER NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (session_id, number)
) STRICT, WITHOUT ROWID;

-- Carryings out of workflows: which run it is, and how much of its log is in the history.
CREATE TABLE agents_runs (
  execution_id TEXT NOT NULL PRIMARY KEY,
  run_id TEXT NOT NULL,
  org_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  workflow_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  start_key TEXT,
  fingerprint TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  deadline INTEGER,
  stopped TEXT,
  carried INTEGER NOT NULL,
  recorded INTEGER NOT NULL,
  cost INTEGER NOT NULL,
  look_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX agents_runs_run ON agents_runs (run_id);

CREATE UNIQUE INDEX agents_runs_key ON agents_runs (org_id, start_key) WHERE start_key IS NOT NULL;

CREATE INDEX agents_runs_workflow ON agents_runs (workflow_id, started_at, execution_id);

CREATE INDEX agents_runs_open ON agents_runs (look_at) WHERE look_at IS NOT NULL;

-- What happened in sessions, one JSON object a row, in the order it was written.
CREATE TABLE agents_history (
  session_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  org_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  at INTEGER NOT NULL,
  record_type TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_history_type ON agents_history (session_id, record_type, seq);

CREATE INDEX agents_history_time ON agents_history (session_id, at, seq);

CREATE INDEX agents_history_org ON agents_history (org_id, at, session_id, seq);

-- The searchable texts of the history, many records a row; those not here yet are the last ones.
CREATE TABLE agents_search (
  session_id TEXT NOT NULL,
  last_seq INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (session_id, last_seq)
) STRICT, WITHOUT ROWID;

-- Figures by hour, of each session and, with an empty session, of all of an owner's.
CREATE TABLE agents_figures (
  org_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  hour INTEGER NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  owner TEXT NOT NULL,
  number INTEGER NOT NULL,
  total INTEGER NOT NULL,
  least INTEGER NOT NULL,
  most INTEGER NOT NULL,
  PRIMARY KEY (org_id, session_id, hour, kind, name, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE agents_bookmarks (
  org_id TEXT NOT NULL,
  owner TEXT NOT NULL,
  bookmark_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  note TEXT,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (org_id, owner, bookmark_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_bookmarks_time ON agents_bookmarks (org_id, created_at, bookmark_id)
