-- Read one job of this owner.
-- $1 job id, $2 tenant, $3 user (null: the whole tenant)
SELECT * FROM jobs WHERE id = $1 AND tenant_id = $2 AND ($3::text IS NULL OR user_id = $3)
