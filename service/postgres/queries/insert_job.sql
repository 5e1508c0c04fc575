-- Accept a job and count the request; says whether its entry may be added at once.
-- $1 id, $2 tenant, $3 user, $4 agent, $5 mode, $6 story, $7 iterations, $8 options,
-- $9 deadline (s), $10 reserved tokens, $11 trace parent, $12 request id, $13 user's stream limit
WITH in_stream AS (
  SELECT $13::integer = 0 OR count(*) < $13 AS ring_now FROM (
    SELECT 1 FROM jobs
    WHERE tenant_id = $2 AND user_id = $3 AND status = 'queued'
      AND (entry_id IS NOT NULL
           OR (relay_after > clock_timestamp() AND available_at <= clock_timestamp()))
    LIMIT $13
  ) AS undelivered
), inserted AS (
  INSERT INTO jobs (
    id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at, reserved_tokens,
    reserved_on, trace_parent, request_id, relay_after
  )
  SELECT $1, $2, $3, $4, $5, $6, $7, $8,
    clock_timestamp() + make_interval(secs => $9), $10,
    (clock_timestamp() AT TIME ZONE 'UTC')::date, $11, $12,
    clock_timestamp() + CASE WHEN ring_now THEN interval '3 seconds' ELSE interval '0' END
  FROM in_stream
  RETURNING *
), counted AS (
  INSERT INTO daily_usage AS d (tenant_id, user_id, day, request_count)
  SELECT tenant_id, user_id, reserved_on, 1 FROM inserted
  ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET request_count = d.request_count + 1
)
SELECT i.*, s.ring_now FROM inserted i, in_stream s
