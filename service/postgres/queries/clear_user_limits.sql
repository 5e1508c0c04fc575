-- Give a user the limits of the tier again.
-- $1 tenant, $2 user
DELETE FROM user_limits WHERE tenant_id = $1 AND user_id = $2 RETURNING tenant_id
