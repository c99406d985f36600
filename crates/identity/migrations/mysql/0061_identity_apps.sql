-- What applications sign with, sealed under the server's secret; the one before works on for a while.
CREATE TABLE IF NOT EXISTS identity_app_secrets (
  app_id VARCHAR(64) NOT NULL PRIMARY KEY,
  sealed VARBINARY(255) NOT NULL,
  created_at BIGINT NOT NULL,
  old_sealed VARBINARY(255),
  old_until BIGINT,
  deerer BIGINT NOT NULL,
  FOREIGN KEY (app_id) REFERENCES identity_apps (id)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Signed requests that were answered, where several instances share a database.
CREATE TABLE IF NOT EXISTS identity_replays (
  token BINARY(16) NOT NULL PRIMARY KEY,
  until BIGINT NOT NULL,
  KEY identity_replays_until (until)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
