-- Look an API key up by its public prefix.
-- $1 prefix
SELECT * FROM api_keys WHERE prefix = $1
