-- Which node of which flow made a call, for calls that runs make: prices may depend on it. Written with
-- the usage record and covered like it. Beside metering_steps, not in it: the hash of a row covers all
-- its columns, and rows written before must go on being what was hashed.
CREATE TABLE metering_places (
  op_seq INTEGER NOT NULL PRIMARY KEY,
  pipeline TEXT NOT NULL,
  node TEXT NOT NULL
) STRICT;
