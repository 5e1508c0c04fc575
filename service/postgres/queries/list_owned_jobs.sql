-- Read a page of this owner's jobs, newest first, without their results.
-- $1 tenant, $2 user (null: the whole tenant), $3 status (null: any), $4 and $5 the cursor, $6 limit
SELECT id, tenant_id, user_id, agent, mode, story, iterations, options, status, attempt,
  error_count, crash_count, handback_count, created_at, started_at, completed_at, available_at,
  deadline_at, NULL::jsonb AS result, error, final_event_id, trace_parent, request_id
FROM jobs
WHERE tenant_id = $1
  AND ($2::text IS NULL OR user_id = $2)
  AND ($3::text IS NULL OR status = $3)
  AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $6
