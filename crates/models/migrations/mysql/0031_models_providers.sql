-- What administrators have decided about providers; the configuration counts for those without a row.
CREATE TABLE IF NOT EXISTS models_providers (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  state VARCHAR(16) NOT NULL,
  changed_at BIGINT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
