-- Accept a job, bind its idempotency key and count the request; no row if the key is bound already.
-- $1 id, $2 tenant, $3 user, $4 agent, $5 mode, $6 story, $7 iterations, $8 options,
-- $9 deadline (s), $10 reserved tokens, $11 trace parent, $12 request id, $13 user's stream limit,
-- $14 idempotency key (null: none), $15 fingerprint
-- Answers the row, whether its entry may be added at once, and the queued jobs ahead, up to 1001.
WITH bound AS (
  -- Waits for a request with the same key that has not ended yet, and yields to it.
  INSERT INTO idempotency_keys AS k (tenant_id, user_id, key, fingerprint, job_id)
  SELECT $2, $3, $14, $15, $1 WHERE $14::text IS NOT NULL
  ON CONFLICT (tenant_id, user_id, key) DO UPDATE SET
    fingerprint = excluded.fingerprint, job_id = excluded.job_id, expires_at = excluded.expires_at
  WHERE k.expires_at <= clock_timestamp()
  RETURNING k.job_id
), in_stream AS (
  SELECT $13::integer = 0 OR count(*) < $13 AS ring_now FROM (
    (SELECT 1 FROM jobs
     WHERE tenant_id = $2 AND user_id = $3 AND status = 'queued' AND entry_id IS NOT NULL
     LIMIT $13)
    UNION ALL
    (SELECT 1 FROM jobs
     WHERE tenant_id = $2 AND user_id = $3 AND status = 'queued' AND entry_id IS NULL
       AND relay_after > (SELECT clock_timestamp()) AND available_at <= clock_timestamp()
     LIMIT $13)
  ) AS undelivered
), inserted AS (
  INSERT INTO jobs (
    id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at, time_allowed,
    reserved_tokens, planned_tokens, reserved_on, trace_parent, request_id, relay_after
  )
  SELECT $1, $2, $3, $4, $5, $6, $7, $8,
    clock_timestamp() + make_interval(secs => $9), make_interval(secs => $9), $10, $10,
    (clock_timestamp() AT TIME ZONE 'UTC')::date, $11, $12,
    clock_timestamp() + CASE WHEN ring_now THEN interval '3 seconds' ELSE interval '0' END
  FROM in_stream
  WHERE $14::text IS NULL OR EXISTS (SELECT FROM bound)
  RETURNING *
), counted AS (
  INSERT INTO daily_usage AS d (tenant_id, user_id, day, request_count)
  SELECT tenant_id, user_id, reserved_on, 1 FROM inserted
  ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET request_count = d.request_count + 1
)
SELECT i.*, s.ring_now, (
  SELECT count(*) FROM (
    SELECT 1 FROM jobs WHERE status = 'queued' AND created_at < i.created_at LIMIT 1001
  ) AS queued
) AS ahead
FROM inserted i, in_stream s
