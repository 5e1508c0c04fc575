-- Extend the leases of attempts that are still this worker's; late renewals are welcome.
-- $1 job ids, $2 attempts, $3 worker id, $4 lease (s)
WITH mine AS (
  SELECT j.id FROM jobs j
  JOIN unnest($1::uuid[], $2::integer[]) AS i (id, attempt)
    ON j.id = i.id AND j.attempt = i.attempt
  WHERE j.status = 'processing' AND j.worker_id = $3
  ORDER BY j.id
  FOR UPDATE OF j
)
UPDATE jobs j SET lease_until = clock_timestamp() + make_interval(secs => $4)
FROM mine WHERE j.id = mine.id
RETURNING j.id, j.attempt
