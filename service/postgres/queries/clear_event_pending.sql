-- Note that jobs' terminal events are in their streams; another generation's is still owed.
-- $1 job ids, $2 the ids of those events
WITH owing AS (
  SELECT j.id FROM jobs j
  JOIN unnest($1::uuid[], $2::text[]) AS i (id, final_event_id)
    ON j.id = i.id AND j.final_event_id = i.final_event_id
  WHERE j.event_pending
  ORDER BY j.id
  FOR UPDATE OF j
)
UPDATE jobs j SET event_pending = false FROM owing WHERE j.id = owing.id
