-- Read a page of failed jobs, newest first, without what their owners wrote or were to get.
-- $1 error code (null: any), $2 and $3 the cursor, $4 limit
SELECT id, tenant_id, user_id, agent, error, attempt, error_count, crash_count, handback_count,
  created_at, completed_at
FROM jobs
WHERE status = 'failed'
  AND ($1::text IS NULL OR error ->> 'code' = $1)
  AND ($2::timestamptz IS NULL OR (completed_at, id) < ($2, $3::uuid))
ORDER BY completed_at DESC, id DESC
LIMIT $4
