-- Find the job that an idempotency key is bound to.
-- $1 tenant, $2 user, $3 key
SELECT j.*, k.fingerprint
FROM idempotency_keys k JOIN jobs j ON j.id = k.job_id
WHERE k.tenant_id = $1 AND k.user_id = $2 AND k.key = $3 AND k.expires_at > clock_timestamp()
