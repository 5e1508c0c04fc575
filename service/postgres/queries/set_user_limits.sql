-- Change some limits of a user; those that are not named stay as they are.
-- $1 tenant, $2 user, $3 limits with their new values, $4 names of limits to take from the tier again
INSERT INTO user_limits AS l (tenant_id, user_id, overrides)
VALUES ($1, $2, $3::jsonb - $4::text[])
ON CONFLICT (tenant_id, user_id) DO UPDATE SET
  overrides = (l.overrides || $3::jsonb) - $4::text[], updated_at = clock_timestamp()
RETURNING tenant_id, user_id, overrides, updated_at
