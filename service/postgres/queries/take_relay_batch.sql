-- Take jobs that are due for an entry, fairly between users, and put off their next turn.
-- $1 user's stream limit (0: none), $2 batch size, $3 and $4 the user after whom to begin (or null)
-- Answers, beside each job taken or none, the last user visited: the next pass begins after him.
-- Reads a few rows of each of a few users, so that a deep backlog costs no more than a short one.
WITH RECURSIVE onward (tenant_id, user_id) AS (
  (SELECT tenant_id, user_id FROM jobs
   WHERE status = 'queued' AND entry_id IS NULL AND (tenant_id, user_id) > ($3, $4)
   ORDER BY tenant_id, user_id LIMIT 1)
  UNION ALL
  SELECT n.* FROM onward w CROSS JOIN LATERAL (
    SELECT j.tenant_id, j.user_id FROM jobs j
    WHERE j.status = 'queued' AND j.entry_id IS NULL
      AND (j.tenant_id, j.user_id) > (w.tenant_id, w.user_id)
    ORDER BY j.tenant_id, j.user_id LIMIT 1
  ) n
), from_the_top (tenant_id, user_id) AS (
  (SELECT tenant_id, user_id FROM jobs WHERE status = 'queued' AND entry_id IS NULL
   ORDER BY tenant_id, user_id LIMIT 1)
  UNION ALL
  SELECT n.* FROM from_the_top w CROSS JOIN LATERAL (
    SELECT j.tenant_id, j.user_id FROM jobs j
    WHERE j.status = 'queued' AND j.entry_id IS NULL
      AND (j.tenant_id, j.user_id) > (w.tenant_id, w.user_id)
    ORDER BY j.tenant_id, j.user_id LIMIT 1
  ) n
), walk AS (
  SELECT tenant_id, user_id, row_number() OVER () AS step FROM (
    SELECT * FROM onward UNION ALL SELECT * FROM from_the_top LIMIT 2 * $2
  ) AS in_turn
), visited AS (
  SELECT tenant_id, user_id, max(step) AS step FROM walk GROUP BY tenant_id, user_id
), chosen AS (
  SELECT d.id, u.entries + d.turn AS place
  FROM visited v CROSS JOIN LATERAL (
    SELECT count(*) AS entries FROM (
      (SELECT 1 FROM jobs j
       WHERE j.tenant_id = v.tenant_id AND j.user_id = v.user_id
         AND j.status = 'queued' AND j.entry_id IS NOT NULL
       LIMIT $1)
      UNION ALL
      -- Somebody took these and is adding their entries right now.
      (SELECT 1 FROM jobs j
       WHERE j.tenant_id = v.tenant_id AND j.user_id = v.user_id
         AND j.status = 'queued' AND j.entry_id IS NULL
         AND j.relay_after > (SELECT clock_timestamp()) AND j.available_at <= clock_timestamp()
       ORDER BY j.relay_after LIMIT $1)
    ) AS undelivered
  ) u CROSS JOIN LATERAL (
    SELECT j.id, row_number() OVER (ORDER BY j.relay_after) AS turn
    FROM jobs j
    WHERE j.tenant_id = v.tenant_id AND j.user_id = v.user_id
      AND j.status = 'queued' AND j.entry_id IS NULL
      AND j.relay_after <= (SELECT clock_timestamp())
    ORDER BY j.relay_after
    LIMIT CASE WHEN $1::integer = 0 THEN $2::integer ELSE greatest(0, $1 - u.entries) END
  ) d
  ORDER BY place, d.id
  LIMIT $2
), taken AS (
  SELECT j.id, c.place FROM jobs j JOIN chosen c ON c.id = j.id
  -- Not IS NULL, which would lead through an index of the whole queue instead of to these rows.
  WHERE j.status = 'queued' AND coalesce(j.entry_id, '') = '' AND j.relay_after <= clock_timestamp()
  ORDER BY j.id
  FOR UPDATE OF j SKIP LOCKED
), put_off AS (
  UPDATE jobs j SET relay_after = clock_timestamp() + interval '5 seconds'
  FROM taken WHERE j.id = taken.id
  RETURNING j.id, j.attempt, j.trace_parent, j.created_at, taken.place
)
SELECT p.*, last.tenant_id, last.user_id
FROM (SELECT tenant_id, user_id FROM visited ORDER BY step DESC LIMIT 1) AS last
LEFT JOIN put_off p ON true
ORDER BY p.place, p.created_at
