-- Erase an ended job of this owner, with its checkpoints: purging and redriving race here.
-- $1 job id, $2 tenant, $3 user (null: the whole tenant)
DELETE FROM jobs
WHERE id = $1 AND tenant_id = $2 AND ($3::text IS NULL OR user_id = $3)
  AND status IN ('completed', 'failed', 'cancelled')
RETURNING id
