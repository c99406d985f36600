-- For finding the newest definition of a name.
ALTER TABLE flow_definitions ADD INDEX flow_definitions_name (org_id, name, created_at, id);
