-- How much an organization, a user or a key may use in a window of time.
CREATE TABLE metering_limits (
  org_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  subject TEXT NOT NULL,
  measure TEXT NOT NULL,
  span TEXT NOT NULL,
  currency TEXT NOT NULL,
  most INTEGER NOT NULL CHECK (most >= 0),
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (org_id, scope, subject, measure, span, currency)
) STRICT, WITHOUT ROWID;

-- In which time zone an organization's days and months begin.
CREATE TABLE metering_zones (
  org_id TEXT NOT NULL PRIMARY KEY,
  time_zone TEXT NOT NULL
) STRICT, WITHOUT ROWID;
