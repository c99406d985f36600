-- For finding the newest definition of a name.
CREATE INDEX flow_definitions_name ON flow_definitions (org_id, name, created_at, id);
