-- Revoke an API key; doing so again changes nothing.
-- $1 prefix
UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())
WHERE prefix = $1 RETURNING prefix
