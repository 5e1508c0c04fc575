-- List queued jobs whose recorded entry was delivered or is not in the stream.
-- $1 whether the job has been started before, $2 and $3 the last delivered entry,
-- $4 and $5 the stream's first entry (null: empty), $6 and $7 its last, $8 batch size,
-- $9 how many to skip
WITH recorded AS (
  SELECT id, attempt, entry_id, created_at, CASE
    WHEN entry_id ~ '^[0-9]{1,18}-[0-9]{1,18}$' THEN
      (split_part(entry_id, '-', 1)::bigint, split_part(entry_id, '-', 2)::bigint)
        <= ($2::bigint, $3::bigint)
      OR (split_part(entry_id, '-', 1)::bigint, split_part(entry_id, '-', 2)::bigint)
        NOT BETWEEN ($4::bigint, $5::bigint) AND ($6::bigint, $7::bigint)
  END AS is_suspect
  FROM jobs
  WHERE status = 'queued' AND entry_id IS NOT NULL AND (attempt > 0) = $1
    AND available_at <= clock_timestamp()
)
-- What cannot be compared (an empty stream, an id that is none) is suspect, too.
SELECT id, attempt, entry_id FROM recorded WHERE is_suspect IS NOT FALSE
ORDER BY created_at LIMIT $8 OFFSET $9
