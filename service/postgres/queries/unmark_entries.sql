-- Forget lost entries, so that the relay adds new ones; a job keeps its place among its owner's.
-- $1 job ids, $2 the entries they had
WITH lost AS (
  SELECT j.id FROM jobs j
  JOIN unnest($1::uuid[], $2::text[]) AS i (id, entry_id)
    ON j.id = i.id AND j.entry_id = i.entry_id
  WHERE j.status = 'queued'
  ORDER BY j.id
  FOR UPDATE OF j
)
UPDATE jobs j SET entry_id = NULL, relay_after = j.available_at FROM lost WHERE j.id = lost.id
RETURNING j.id
