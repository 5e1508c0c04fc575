-- Delete ledger rows of days long past, unless their job is still there: it counts by them.
-- $1 days to keep, $2 batch size
WITH old AS (
  SELECT u.job_id, u.attempt, u.call FROM usage_records u
  WHERE u.opened_at
      < (SELECT date_trunc('day', clock_timestamp(), 'UTC')) - make_interval(days => $1)
    AND u.ending IS NOT NULL
    AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = u.job_id)
  ORDER BY u.opened_at LIMIT $2
  FOR UPDATE OF u SKIP LOCKED
)
DELETE FROM usage_records u USING old o
WHERE u.job_id = o.job_id AND u.attempt = o.attempt AND u.call = o.call
RETURNING u.job_id
