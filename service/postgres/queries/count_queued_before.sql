-- Count the queued jobs ahead of one, up to 1001.
-- $1 its creation time
SELECT count(*) FROM (
  SELECT 1 FROM jobs WHERE status = 'queued' AND created_at < $1 LIMIT 1001
) AS ahead
