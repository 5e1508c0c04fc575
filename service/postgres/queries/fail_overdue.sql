-- Fail queued jobs whose deadline has passed.
-- $1 batch size
WITH overdue AS (
  SELECT id FROM jobs WHERE status = 'queued' AND deadline_at <= (SELECT clock_timestamp())
  ORDER BY deadline_at LIMIT $1
  FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET
  status = 'failed', attempt = j.attempt + 1, completed_at = clock_timestamp(),
  reserved_tokens = 0, final_event_id = (j.attempt + 1) || '-1', event_pending = true,
  error = '{"code": "DEADLINE_EXCEEDED", "message": "the job did not end before its deadline", "retryable": true}'
FROM overdue WHERE j.id = overdue.id
RETURNING j.id, j.attempt
