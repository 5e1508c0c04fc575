-- Read where jobs stand.
-- $1 job ids
SELECT id, status, attempt, entry_id, final_event_id FROM jobs WHERE id = ANY ($1::uuid[])
