-- Judge deliveries and start the claimable jobs, one verdict each.
-- $1 job ids (distinct), $2 entry ids, $3 worker id, $4 lease (s), $5 crash budget, $6 suspects
-- Never SKIP LOCKED: a locked row would look unclaimable and its entry would be acknowledged.
WITH wanted AS (
  SELECT id, entry FROM unnest($1::uuid[], $2::text[]) AS w (id, entry)
), locked AS (
  SELECT j.id, w.entry, j.status, j.worker_id, j.entry_id, j.lease_until, j.available_at,
         j.deadline_at, j.crash_count
  FROM jobs j JOIN wanted w ON w.id = j.id
  ORDER BY j.id
  FOR UPDATE OF j
), ruled AS (
  SELECT id, entry, crash_count, CASE
    WHEN status IN ('completed', 'failed', 'cancelled') THEN 'terminal'
    WHEN status = 'queued' AND deadline_at <= clock_timestamp() THEN 'overdue'
    WHEN status = 'queued' AND available_at > clock_timestamp() THEN 'not_due'
    WHEN status = 'queued' THEN 'start'
    -- The reply of our own earlier claim was lost: the caller does not run this job.
    WHEN worker_id = $3 THEN 'start'
    -- While Postgres was down nobody could renew, so no lease counts as expired just after it.
    WHEN lease_until <= clock_timestamp()
      AND pg_postmaster_start_time() + make_interval(secs => $4) <= clock_timestamp()
    THEN CASE
      WHEN deadline_at <= clock_timestamp() THEN 'overdue'
      WHEN crash_count + 1 >= $5 THEN 'worker_lost'
      ELSE 'take_over'
    END
    WHEN entry_id IS DISTINCT FROM entry THEN 'leased_through_another_entry'
    ELSE 'leased'
  END AS ruling
  FROM locked
), suspected AS (
  SELECT id, entry, ruling,
    ruling IN ('start', 'take_over') AND (crash_count > 0 OR ruling = 'take_over') AS suspect
  FROM ruled
), judged AS (
  SELECT id, entry, CASE
    WHEN suspect AND row_number() OVER (PARTITION BY suspect ORDER BY id) > $6 THEN 'suspect_held'
    ELSE ruling
  END AS ruling
  FROM suspected
), started AS (
  UPDATE jobs j SET
    status = 'processing', attempt = j.attempt + 1, worker_id = $3, entry_id = g.entry,
    lease_until = clock_timestamp() + make_interval(secs => $4),
    crash_count = j.crash_count + (g.ruling = 'take_over')::integer,
    started_at = coalesce(j.started_at, clock_timestamp()),
    -- They are null in the locked row. In the statement's snapshot, on which Postgres checks the
    -- constraints first, a job that was redriven since still has them.
    completed_at = NULL, final_event_id = NULL
  FROM judged g
  WHERE j.id = g.id AND g.ruling IN ('start', 'take_over')
  RETURNING j.*
), failed AS (
  UPDATE jobs j SET
    status = 'failed', attempt = j.attempt + 1, completed_at = clock_timestamp(),
    lease_until = NULL, reserved_tokens = 0,
    crash_count = j.crash_count + (g.ruling = 'worker_lost')::integer,
    final_event_id = (j.attempt + 1) || '-1', event_pending = true,
    error = CASE g.ruling
      WHEN 'overdue' THEN '{"code": "DEADLINE_EXCEEDED", "message": "the job did not end before its deadline", "retryable": true}'::jsonb
      ELSE '{"code": "WORKER_LOST", "message": "its worker was lost too many times", "retryable": true}'::jsonb
    END
  FROM judged g
  WHERE j.id = g.id AND g.ruling IN ('overdue', 'worker_lost')
  RETURNING j.*
)
SELECT g.id AS judged_id, g.ruling, clock_timestamp() AS judged_at, r.*
FROM judged g LEFT JOIN (SELECT * FROM started UNION ALL SELECT * FROM failed) r ON r.id = g.id
