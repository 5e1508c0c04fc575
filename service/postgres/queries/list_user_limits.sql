-- List the users whose limits differ from their tier's.
-- $1 tenant (null: any), $2 user (null: any)
SELECT tenant_id, user_id, overrides, updated_at FROM user_limits
WHERE ($1::text IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR user_id = $2)
  AND overrides <> '{}'::jsonb
ORDER BY tenant_id, user_id
