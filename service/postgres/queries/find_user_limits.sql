-- Look up the limits that a user has instead of the tier's.
-- $1 tenant, $2 user
SELECT overrides FROM user_limits WHERE tenant_id = $1 AND user_id = $2
