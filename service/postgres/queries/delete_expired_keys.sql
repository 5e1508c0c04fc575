-- Delete idempotency keys that no longer bind; one that is being bound anew stays.
-- $1 batch size
WITH expired AS (
  SELECT tenant_id, user_id, key FROM idempotency_keys
  WHERE expires_at <= (SELECT clock_timestamp())
  ORDER BY expires_at LIMIT $1
  FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency_keys k USING expired e
WHERE k.tenant_id = e.tenant_id AND k.user_id = e.user_id AND k.key = e.key
RETURNING k.job_id
