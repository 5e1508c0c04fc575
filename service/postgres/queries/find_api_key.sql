-- Look an API key up by its public prefix, with the limits that its user has instead of the tier's.
-- $1 prefix
SELECT k.*, l.overrides FROM api_keys k
LEFT JOIN user_limits l ON l.tenant_id = k.tenant_id AND l.user_id = k.user_id
WHERE k.prefix = $1
