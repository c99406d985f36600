-- What administrators have decided about providers; the configuration counts for those without a row.
CREATE TABLE models_providers (
  name TEXT NOT NULL PRIMARY KEY,
  state TEXT NOT NULL,
  changed_at INTEGER NOT NULL
) STRICT;
