-- List ended jobs whose terminal event may not be in their stream yet.
-- $1 batch size, $2 how many to skip
SELECT * FROM jobs
WHERE event_pending AND completed_at < clock_timestamp() - interval '2 seconds'
ORDER BY completed_at LIMIT $1 OFFSET $2
