-- Let workers start jobs again; no row if they may already.
UPDATE queue_control SET paused_at = NULL, paused_by = NULL, reason = NULL
WHERE paused_at IS NOT NULL
RETURNING only_row
