-- Find what an idempotency key is bound to.
-- $1 tenant, $2 user, $3 key
SELECT fingerprint, job_id FROM idempotency_keys
WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND expires_at > clock_timestamp()
