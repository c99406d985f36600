-- How much an organization, a user or a key may use in a window of time.
CREATE TABLE IF NOT EXISTS metering_limits (
  org_id VARCHAR(64) NOT NULL,
  scope VARCHAR(8) NOT NULL,
  subject VARCHAR(64) NOT NULL,
  measure VARCHAR(16) NOT NULL,
  span VARCHAR(8) NOT NULL,
  currency VARCHAR(8) NOT NULL,
  most BIGINT NOT NULL CHECK (most >= 0),
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, scope, subject, measure, span, currency)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- In which time zone an organization's days and months begin.
CREATE TABLE IF NOT EXISTS metering_zones (
  org_id VARCHAR(64) NOT NULL PRIMARY KEY,
  time_zone VARCHAR(64) NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
