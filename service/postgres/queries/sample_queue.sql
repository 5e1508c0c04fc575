-- Count jobs that are due, wait for their time, run, have a silent worker, or have failed.
-- Also for how many seconds the oldest of each has been due, submitted or started, and the pause.
SELECT
  open_jobs.*,
  (SELECT count(*) FROM jobs WHERE status = 'failed') AS failed,
  coalesce(
    (SELECT extract(epoch FROM clock_timestamp() - paused_at)::float8 FROM queue_control), 0
  ) AS paused_for
FROM (
  SELECT
    count(*) FILTER (WHERE status = 'queued' AND available_at <= moment) AS queued,
    count(*) FILTER (WHERE status = 'queued' AND available_at > moment) AS waiting,
    count(*) FILTER (WHERE status = 'processing') AS processing,
    coalesce(extract(epoch FROM moment - min(available_at)
      FILTER (WHERE status = 'queued' AND available_at <= moment))::float8, 0) AS queued_for,
    coalesce(extract(epoch FROM moment - min(created_at)
      FILTER (WHERE status = 'queued' AND available_at > moment))::float8, 0) AS waiting_for,
    coalesce(extract(epoch FROM moment - min(started_at)
      FILTER (WHERE status = 'processing'))::float8, 0) AS processing_for,
    count(*) FILTER (WHERE status = 'processing' AND lease_until < moment) AS leases_expired
  FROM (SELECT clock_timestamp() AS moment) AS now
  LEFT JOIN (
    SELECT status, available_at, created_at, started_at, lease_until
    FROM jobs WHERE status = 'queued' AND created_at IS NOT NULL
    UNION ALL
    SELECT status, available_at, created_at, started_at, lease_until
    FROM jobs WHERE status = 'processing'
  ) AS each_job ON true
  GROUP BY moment
) AS open_jobs
