-- List jobs whose worker has been silent for longer than its lease.
-- $1 lease (s), $2 batch size, $3 how many to skip
-- While Postgres was down nobody could renew, so no lease counts as expired just after its start.
SELECT id, attempt, entry_id FROM jobs
WHERE status = 'processing' AND lease_until < clock_timestamp() - interval '3 seconds'
  AND pg_postmaster_start_time() + make_interval(secs => $1) <= clock_timestamp()
ORDER BY lease_until LIMIT $2 OFFSET $3
