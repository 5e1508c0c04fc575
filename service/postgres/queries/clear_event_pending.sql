-- Note that jobs' terminal events are in their streams.
-- $1 job ids
WITH owing AS (
  SELECT id FROM jobs WHERE id = ANY ($1::uuid[]) AND event_pending ORDER BY id FOR UPDATE
)
UPDATE jobs j SET event_pending = false FROM owing WHERE j.id = owing.id
