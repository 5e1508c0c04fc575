-- Queue failed jobs again: with new budgets, a new deadline and a new reservation.
-- $1 job ids (null: any), $2 tenant (null: any), $3 user (null: any), $4 error code (null: any),
-- $5 how many, those that failed first, $6 user's stream limit (0: none), $7 tokens per day and
-- $8 concurrent jobs of the owner of the first job (null: no limit)
-- Answers the rows, what they had failed with, and whether their entries may be added at once; beside
-- none of them if a limit leaves no room.
WITH room AS MATERIALIZED (
  SELECT * FROM redrive_room(($1::uuid[])[1], $2, $3, $7, $8)
), chosen AS (
  SELECT id FROM jobs
  WHERE status = 'failed' AND (SELECT verdict FROM room) = 'accepted'
    AND ($1::uuid[] IS NULL OR id = ANY ($1))
    AND ($2::text IS NULL OR tenant_id = $2)
    AND ($3::text IS NULL OR user_id = $3)
    AND ($4::text IS NULL OR error ->> 'code' = $4)
  ORDER BY completed_at, id LIMIT $5
), failed AS (
  SELECT j.id, j.tenant_id, j.user_id, j.error ->> 'code' AS failure
  FROM jobs j JOIN chosen c ON c.id = j.id
  WHERE j.status = 'failed'
  ORDER BY j.id
  FOR UPDATE OF j
), owners AS (
  SELECT o.*, u.entries FROM (SELECT DISTINCT tenant_id, user_id FROM failed) o
  CROSS JOIN LATERAL (
    SELECT count(*) AS entries FROM (
      (SELECT 1 FROM jobs j
       WHERE j.tenant_id = o.tenant_id AND j.user_id = o.user_id
         AND j.status = 'queued' AND j.entry_id IS NOT NULL
       LIMIT $6)
      UNION ALL
      (SELECT 1 FROM jobs j
       WHERE j.tenant_id = o.tenant_id AND j.user_id = o.user_id
         AND j.status = 'queued' AND j.entry_id IS NULL
         AND j.relay_after > (SELECT clock_timestamp()) AND j.available_at <= clock_timestamp()
       LIMIT $6)
    ) AS undelivered
  ) u
), ordered AS (
  SELECT f.id, f.failure, $6::integer = 0 OR o.entries + row_number() OVER (
    PARTITION BY tenant_id, user_id ORDER BY f.id
  ) <= $6 AS ring_now
  FROM failed f JOIN owners o USING (tenant_id, user_id)
), redriven AS (
  UPDATE jobs j SET
    status = 'queued', attempt = j.attempt + 1,
    error_count = 0, crash_count = 0, handback_count = 0,
    error = NULL, completed_at = NULL, final_event_id = NULL, event_pending = false,
    entry_id = NULL, lease_until = NULL,
    available_at = clock_timestamp(),
    relay_after = clock_timestamp()
      + CASE WHEN o.ring_now THEN interval '3 seconds' ELSE interval '0' END,
    time_allowed = coalesce(j.time_allowed, j.deadline_at - j.created_at),
    deadline_at = clock_timestamp() + coalesce(j.time_allowed, j.deadline_at - j.created_at),
    reserved_tokens = j.planned_tokens, reserved_on = (clock_timestamp() AT TIME ZONE 'UTC')::date
  FROM ordered o WHERE j.id = o.id
  RETURNING j.*, o.failure, o.ring_now
)
SELECT r.verdict, r.active, r.requests, r.tokens, r.wanted,
  extract(epoch FROM
    date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + interval '1 day'
    - clock_timestamp() AT TIME ZONE 'UTC'
  )::float8 AS day_left, d.*
FROM room r LEFT JOIN redriven d ON true
