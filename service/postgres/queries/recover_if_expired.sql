-- Queue jobs whose worker was lost and whose entry nobody holds, or fail them for good.
-- $1 job ids, $2 attempts, $3 crash budget
WITH expired AS (
  SELECT j.id, j.crash_count + 1 AS crashes FROM jobs j
  JOIN unnest($1::uuid[], $2::integer[]) AS i (id, attempt)
    ON j.id = i.id AND j.attempt = i.attempt
  WHERE j.status = 'processing' AND j.lease_until < clock_timestamp()
  ORDER BY j.id
  FOR UPDATE OF j
), recovered AS (
  -- Both halves judge by the locked row: the statement's snapshot may be older than a checkpoint.
  UPDATE jobs j SET
    status = 'queued', crash_count = e.crashes, entry_id = NULL, lease_until = NULL,
    available_at = clock_timestamp(), relay_after = clock_timestamp()
  FROM expired e WHERE j.id = e.id AND e.crashes < $3
  RETURNING j.id, j.attempt, j.status
), failed AS (
  UPDATE jobs j SET
    status = 'failed', attempt = j.attempt + 1, crash_count = e.crashes,
    completed_at = clock_timestamp(), lease_until = NULL, reserved_tokens = 0,
    final_event_id = (j.attempt + 1) || '-1', event_pending = true,
    error = '{"code": "WORKER_LOST", "message": "its worker was lost too many times", "retryable": true}'
  FROM expired e WHERE j.id = e.id AND e.crashes >= $3
  RETURNING j.id, j.attempt, j.status
)
SELECT * FROM recovered UNION ALL SELECT * FROM failed
