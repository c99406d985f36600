-- Which node of which flow made a call, for calls that runs make: prices may depend on it. Written with
-- the usage record and covered like it. Beside metering_steps, not in it: the hash of a row covers all
-- its columns, and rows written before must go on being what was hashed.
CREATE TABLE IF NOT EXISTS metering_places (
  op_seq BIGINT NOT NULL PRIMARY KEY,
  pipeline VARCHAR(255) NOT NULL,
  node MEDIUMTEXT NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
