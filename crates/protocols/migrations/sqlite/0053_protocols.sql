-- Threads of the LangGraph surface: each a row of runs that go on from one another.
CREATE TABLE protocols_threads (
  org_id TEXT NOT NULL,
  id TEXT NOT NULL,
  metadata TEXT NOT NULL,
  -- Fields set by hand since the last run; else they are the last run's.
  fields TEXT,
  -- The newest run of the thread, set before it starts: of two that start at once, one finds the
  -- other here.
  last_run TEXT,
  -- Made for one run: not listed.
  stateless INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (org_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX protocols_threads_updated ON protocols_threads (org_id, stateless, updated_at, id);

-- Runs of threads. One that answers a question goes on with the engine's run that asked it: it is
-- the part of that run's log behind `after_seq`, up to `until_seq` if another has gone on since.
CREATE TABLE protocols_runs (
  org_id TEXT NOT NULL,
  id TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  assistant TEXT NOT NULL,
  flow_run TEXT NOT NULL,
  after_seq INTEGER NOT NULL,
  until_seq INTEGER,
  metadata TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (org_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX protocols_runs_thread ON protocols_runs (org_id, thread_id, id);
