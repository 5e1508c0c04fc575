-- Record where queued jobs' entries are, unless the job has moved on or has an entry already.
-- $1 job ids, $2 attempts, $3 entry ids
WITH markable AS (
  SELECT j.id, i.entry_id FROM jobs j
  JOIN unnest($1::uuid[], $2::integer[], $3::text[]) AS i (id, attempt, entry_id)
    ON j.id = i.id AND j.attempt = i.attempt
  -- Not IS NULL, which would lead through an index of the whole queue instead of to these rows.
  WHERE j.status = 'queued' AND coalesce(j.entry_id, '') = ''
  ORDER BY j.id
  FOR UPDATE OF j
)
UPDATE jobs j SET entry_id = m.entry_id FROM markable m WHERE j.id = m.id
