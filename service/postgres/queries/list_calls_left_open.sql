-- List ended jobs with calls that were never closed, and the attempt before which to write off.
-- $1 batch size
SELECT u.job_id, max(u.attempt) + 1 AS attempt
FROM usage_records u LEFT JOIN jobs j ON j.id = u.job_id
WHERE u.ending IS NULL
  -- A running worker gets the time to close its call itself.
  AND (j.id IS NULL OR j.completed_at < clock_timestamp() - interval '10 seconds')
GROUP BY u.job_id
LIMIT $1
