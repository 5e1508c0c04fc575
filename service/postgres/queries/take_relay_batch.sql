-- Take jobs that are due for an entry, fairly between users, and put off their next turn.
-- $1 user's stream limit (0: none), $2 batch size
WITH due AS (
  SELECT id, tenant_id, user_id, created_at,
    row_number() OVER (PARTITION BY tenant_id, user_id ORDER BY created_at, id) AS turn
  FROM jobs
  WHERE status = 'queued' AND entry_id IS NULL AND relay_after <= clock_timestamp()
), undelivered AS (
  SELECT tenant_id, user_id, count(*) AS entries FROM jobs
  WHERE status = 'queued'
    AND (entry_id IS NOT NULL
         OR (relay_after > clock_timestamp() AND available_at <= clock_timestamp()))
    AND (tenant_id, user_id) IN (SELECT tenant_id, user_id FROM due)
  GROUP BY tenant_id, user_id
), chosen AS (
  SELECT d.id FROM due d LEFT JOIN undelivered u USING (tenant_id, user_id)
  WHERE $1::integer = 0 OR d.turn + coalesce(u.entries, 0) <= $1
  ORDER BY d.turn, d.created_at
  LIMIT $2
), taken AS (
  SELECT j.id FROM jobs j JOIN chosen c ON c.id = j.id
  WHERE j.status = 'queued' AND j.entry_id IS NULL AND j.relay_after <= clock_timestamp()
  ORDER BY j.id
  FOR UPDATE OF j SKIP LOCKED
)
UPDATE jobs j SET relay_after = clock_timestamp() + interval '5 seconds'
FROM taken WHERE j.id = taken.id
RETURNING j.id, j.attempt, j.trace_parent, j.created_at
