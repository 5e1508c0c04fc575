-- Delete jobs that ended long ago, with their checkpoints; one that is being redriven stays.
-- $1 days to keep, $2 batch size
WITH old AS (
  SELECT id FROM jobs
  WHERE status IN ('completed', 'failed', 'cancelled')
    AND completed_at < (SELECT clock_timestamp()) - make_interval(days => $1)
  ORDER BY completed_at LIMIT $2
  FOR UPDATE SKIP LOCKED
)
DELETE FROM jobs j USING old WHERE j.id = old.id
RETURNING j.id
