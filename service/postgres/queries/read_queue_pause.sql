-- Read since when no worker starts a job, who wanted it and why; no row if they may.
SELECT paused_at, paused_by, reason FROM queue_control WHERE paused_at IS NOT NULL
