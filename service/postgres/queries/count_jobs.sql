-- Count the jobs that wait, run or have failed, and those that ended within the last hour.
-- Also for how many seconds the oldest queued one has waited since its submission.
-- Each count has a partial index that holds nothing else, so that a full archive costs nothing.
SELECT
  (SELECT count(*) FROM jobs WHERE status = 'queued' AND created_at IS NOT NULL) AS queued,
  (SELECT count(*) FROM jobs
   WHERE status = 'queued' AND created_at IS NOT NULL AND available_at > clock_timestamp()) AS waiting,
  (SELECT count(*) FROM jobs WHERE status = 'queued' AND entry_id IS NULL) AS without_entry,
  (SELECT count(*) FROM jobs WHERE status = 'processing') AS processing,
  (SELECT count(*) FROM jobs WHERE status = 'failed') AS failed,
  (SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8
   FROM jobs WHERE status = 'queued' AND created_at IS NOT NULL) AS oldest_queued,
  ended.*
FROM (
  SELECT
    count(*) FILTER (WHERE status = 'completed') AS completed_last_hour,
    count(*) FILTER (WHERE status = 'failed') AS failed_last_hour,
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled_last_hour
  FROM jobs WHERE completed_at > (SELECT clock_timestamp()) - interval '1 hour'
) AS ended
