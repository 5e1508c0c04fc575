-- Delete what users used on days long past, once nothing of it is in the ledger any more.
-- $1 days to keep, $2 batch size
WITH old AS (
  SELECT d.tenant_id, d.user_id, d.day FROM daily_usage d
  WHERE d.day < (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date) - $1::integer
    AND NOT EXISTS (
      SELECT FROM usage_records u
      WHERE u.tenant_id = d.tenant_id AND u.user_id = d.user_id AND u.day = d.day
    )
  ORDER BY d.day LIMIT $2
  FOR UPDATE OF d SKIP LOCKED
)
DELETE FROM daily_usage d USING old o
WHERE d.tenant_id = o.tenant_id AND d.user_id = o.user_id AND d.day = o.day
RETURNING d.day
