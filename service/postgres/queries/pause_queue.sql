-- Let no worker start another job; a pause under way keeps its time, its author and its reason.
-- $1 who wants it, $2 why (or null)
UPDATE queue_control c SET
  paused_at = coalesce(c.paused_at, clock_timestamp()),
  paused_by = coalesce(c.paused_by, $1),
  reason = CASE WHEN c.paused_at IS NULL THEN $2 ELSE c.reason END
RETURNING c.paused_at, c.paused_by, c.reason
