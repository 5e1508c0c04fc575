-- Write how attempts ended, where they are still current; repeating it changes nothing.
-- $1 job ids, $2 attempts, $3 statuses, $4 results, $5 errors, $6 final event ids, $7 delays (s),
-- $8 errors to add, $9 hand-backs to add, $10 whether deadline and reservation wait for the delay
WITH item AS (
  SELECT * FROM unnest(
    $1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::float8[], $8::integer[], $9::integer[], $10::boolean[]
  ) WITH ORDINALITY AS i (
    id, attempt, status, result, error, final_event_id, delay, errors, handbacks, postponed, position
  )
), locked AS (
  SELECT j.id, j.attempt, j.status, j.entry_id, j.final_event_id
  FROM jobs j WHERE j.id = ANY ($1::uuid[])
  ORDER BY j.id
  FOR UPDATE
), decided AS (
  SELECT DISTINCT ON (i.id) i.* FROM item i
  JOIN locked l ON l.id = i.id AND l.attempt = i.attempt AND l.status = 'processing'
  ORDER BY i.id, i.position
), recorded AS (
  UPDATE jobs j SET
    status = d.status,
    result = d.result::jsonb,
    error = d.error::jsonb,
    final_event_id = d.final_event_id,
    event_pending = d.final_event_id IS NOT NULL,
    completed_at = CASE WHEN d.final_event_id IS NOT NULL THEN clock_timestamp() END,
    reserved_tokens = CASE WHEN d.final_event_id IS NULL THEN j.reserved_tokens ELSE 0 END,
    error_count = j.error_count + d.errors,
    handback_count = j.handback_count + d.handbacks,
    available_at = CASE
      WHEN d.final_event_id IS NULL THEN clock_timestamp() + make_interval(secs => d.delay)
      ELSE j.available_at
    END,
    -- A hand-back adds its own entry at once; the relay owes it only if that fails.
    relay_after = clock_timestamp()
      + make_interval(secs => d.delay + CASE WHEN d.handbacks > 0 THEN 2 ELSE 0 END),
    deadline_at = j.deadline_at
      + make_interval(secs => CASE WHEN d.postponed THEN d.delay ELSE 0 END),
    reserved_on = CASE
      WHEN d.postponed
      THEN ((clock_timestamp() + make_interval(secs => d.delay)) AT TIME ZONE 'UTC')::date
      ELSE j.reserved_on
    END,
    entry_id = CASE WHEN d.final_event_id IS NULL THEN NULL ELSE j.entry_id END,
    lease_until = NULL
  FROM decided d
  WHERE j.id = d.id
  RETURNING j.id, j.status, j.attempt, j.entry_id, j.final_event_id, d.position
), standing AS (
  SELECT id, status, attempt, entry_id, final_event_id, position FROM recorded
  UNION ALL
  SELECT id, status, attempt, entry_id, final_event_id, NULL FROM locked
  WHERE id NOT IN (SELECT id FROM recorded)
)
SELECT i.position,
  -- Our own outcome under our own attempt: an earlier COMMIT went through, its reply was lost.
  coalesce(
    s.attempt = i.attempt AND s.status = i.status
      AND s.final_event_id IS NOT DISTINCT FROM i.final_event_id,
    false
  ) AS applied,
  coalesce(s.position = i.position, false) AS fresh,
  s.status, coalesce(s.attempt, 0) AS attempt, s.entry_id, s.final_event_id
FROM item i LEFT JOIN standing s ON s.id = i.id
ORDER BY i.position
