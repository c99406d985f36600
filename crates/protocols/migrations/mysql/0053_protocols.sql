-- Threads of the LangGraph surface: each a row of runs that go on from one another.
CREATE TABLE IF NOT EXISTS protocols_threads (
  org_id VARCHAR(64) NOT NULL,
  id VARCHAR(64) NOT NULL,
  metadata MEDIUMTEXT NOT NULL,
  -- Fields set by hand since the last run; else they are the last run's.
  fields MEDIUMTEXT,
  -- The newest run of the thread, set before it starts: of two that start at once, one finds the
  -- other here.
  last_run VARCHAR(64),
  -- Made for one run: not listed.
  stateless BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, id),
  KEY protocols_threads_updated (org_id, stateless, updated_at, id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Runs of threads. One that answers a question goes on with the engine's run that asked it: it is
-- the part of that run's log behind `after_seq`, up to `until_seq` if another has gone on since.
CREATE TABLE IF NOT EXISTS protocols_runs (
  org_id VARCHAR(64) NOT NULL,
  id VARCHAR(64) NOT NULL,
  thread_id VARCHAR(64) NOT NULL,
  assistant VARCHAR(255) NOT NULL,
  flow_run VARCHAR(64) NOT NULL,
  after_seq BIGINT NOT NULL,
  until_seq BIGINT,
  metadata MEDIUMTEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, id),
  KEY protocols_runs_thread (org_id, thread_id, id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
