-- Store a new API key.
-- $1 prefix, $2 hash, $3 tenant, $4 user, $5 name, $6 scopes, $7 tier, $8 valid for (s; null: ever)
INSERT INTO api_keys (prefix, key_hash, tenant_id, user_id, name, scopes, tier, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(secs => $8))
RETURNING *
