-- Cancel a job that has not ended: completing and cancelling race here and exactly one wins.
-- $1 job id, $2 tenant, $3 user (null: the whole tenant)
UPDATE jobs SET
  status = 'cancelled', attempt = attempt + 1, completed_at = clock_timestamp(),
  lease_until = NULL, reserved_tokens = 0,
  final_event_id = (attempt + 1) || '-1', event_pending = true
WHERE id = $1 AND tenant_id = $2 AND ($3::text IS NULL OR user_id = $3)
  AND status IN ('queued', 'processing')
RETURNING *
