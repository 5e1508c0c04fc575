-- Bind an idempotency key to a job, unless it is bound already.
-- $1 tenant, $2 user, $3 key, $4 fingerprint, $5 job id
INSERT INTO idempotency_keys AS k (tenant_id, user_id, key, fingerprint, job_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, user_id, key) DO UPDATE SET
  fingerprint = excluded.fingerprint, job_id = excluded.job_id, expires_at = excluded.expires_at
WHERE k.expires_at <= clock_timestamp()
RETURNING job_id
