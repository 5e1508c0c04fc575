-- List queued jobs whose recorded entry was delivered or is no longer in the stream.
-- $1 whether the job has been started before, $2 and $3 the last delivered entry,
-- $4 and $5 the stream's first entry (null: empty), $6 batch size
SELECT id, attempt, entry_id FROM jobs
WHERE status = 'queued' AND entry_id IS NOT NULL AND (attempt > 0) = $1
  AND available_at <= clock_timestamp()
  AND (
    $4::bigint IS NULL
    OR (split_part(entry_id, '-', 1)::bigint, split_part(entry_id, '-', 2)::bigint)
       <= ($2::bigint, $3::bigint)
    OR (split_part(entry_id, '-', 1)::bigint, split_part(entry_id, '-', 2)::bigint)
       < ($4::bigint, $5::bigint)
  )
ORDER BY created_at LIMIT $6
