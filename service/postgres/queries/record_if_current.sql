-- Write how attempts ended, where they are still current; repeating it changes nothing.
-- $1 job ids, $2 attempts, $3 statuses, $4 results, $5 errors, $6 final event ids, $7 delays (s),
-- $8 errors to add, $9 hand-backs to add
WITH item AS (
  SELECT * FROM unnest(
    $1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::float8[], $8::integer[], $9::integer[]
  ) WITH ORDINALITY AS i (
    id, attempt, status, result, error, final_event_id, delay, errors, handbacks, position
  )
), locked AS (
  SELECT j.id, j.attempt, j.status, j.entry_id, j.final_event_id
  FROM jobs j WHERE j.id = ANY ($1::uuid[])
  ORDER BY j.id
  FOR UPDATE
), recorded AS (
  UPDATE jobs j SET
    status = i.status,
    result = i.result::jsonb,
    error = i.error::jsonb,
    final_event_id = i.final_event_id,
    event_pending = i.final_event_id IS NOT NULL,
    completed_at = CASE WHEN i.final_event_id IS NOT NULL THEN clock_timestamp() END,
    reserved_tokens = CASE WHEN i.final_event_id IS NULL THEN j.reserved_tokens ELSE 0 END,
    error_count = j.error_count + i.errors,
    handback_count = j.handback_count + i.handbacks,
    available_at = clock_timestamp() + make_interval(secs => i.delay),
    -- A hand-back adds its own entry at once; the relay owes it only if that fails.
    relay_after = clock_timestamp()
      + make_interval(secs => i.delay + CASE WHEN i.handbacks > 0 THEN 2 ELSE 0 END),
    entry_id = CASE WHEN i.final_event_id IS NULL THEN NULL ELSE j.entry_id END,
    lease_until = NULL
  FROM item i
  WHERE j.id = i.id AND j.attempt = i.attempt AND j.status = 'processing'
    AND j.id IN (SELECT id FROM locked)
  RETURNING j.id, j.status, j.attempt, j.entry_id, j.final_event_id, i.position
)
SELECT i.position, i.id,
  r.id IS NOT NULL
    OR (l.attempt = i.attempt AND l.status = i.status
        AND l.final_event_id IS NOT DISTINCT FROM i.final_event_id) AS applied,
  r.id IS NOT NULL AS fresh,
  coalesce(r.status, l.status) AS status,
  coalesce(r.attempt, l.attempt, 0) AS attempt,
  CASE WHEN r.id IS NOT NULL THEN r.entry_id ELSE l.entry_id END AS entry_id,
  CASE WHEN r.id IS NOT NULL THEN r.final_event_id ELSE l.final_event_id END AS final_event_id
FROM item i LEFT JOIN locked l ON l.id = i.id LEFT JOIN recorded r ON r.position = i.position
ORDER BY i.position
