-- List jobs whose worker has been silent for longer than its lease.
-- $1 lease (s), $2 batch size, $3 how many to skip
-- While Postgres was down nobody could renew, so no lease counts as expired just after its start.
SELECT id, attempt, CASE
  -- A worker that reaches Redis and not Postgres renews its entry for ever: after a while (longer
  -- than it tries to write a finished call down) its entry does not count any more.
  WHEN lease_until >= clock_timestamp() - interval '2 minutes' THEN entry_id
END AS entry_id
FROM jobs
WHERE status = 'processing' AND lease_until < clock_timestamp() - interval '3 seconds'
  AND pg_postmaster_start_time() + make_interval(secs => $1) <= clock_timestamp()
ORDER BY lease_until LIMIT $2 OFFSET $3
