-- An organization's people by name and by age.
CREATE INDEX identity_users_names ON identity_users (org_id, name, id);
CREATE INDEX identity_users_ages ON identity_users (org_id, created_at, id);
