-- Note that an API key was used, at most once a minute.
-- $1 prefix
UPDATE api_keys SET last_used_at = clock_timestamp()
WHERE prefix = $1
  AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
