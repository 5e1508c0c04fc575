-- Let this transaction see what belongs to one user, or to a whole tenant.
-- $1 tenant, $2 user (null: the whole tenant)
SELECT set_config('usa.tenant', $1, true), set_config('usa.user', coalesce($2, ''), true),
  set_config('usa.whole_tenant', CASE WHEN $2::text IS NULL THEN 'on' ELSE 'off' END, true)
