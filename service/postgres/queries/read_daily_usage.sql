-- Sum up what an owner used on each of the last days, today first, those without use included.
-- $1 tenant, $2 user (null: the whole tenant), $3 how many days
WITH days AS MATERIALIZED (
  SELECT today.day - back AS day
  FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day) AS today,
    generate_series(0, $3::integer - 1) AS back
)
SELECT s.day,
  coalesce(sum(d.request_count), 0)::bigint AS requests,
  coalesce(sum(d.input_tokens), 0)::bigint AS input,
  coalesce(sum(d.output_tokens), 0)::bigint AS output,
  coalesce(sum(d.cache_read_tokens), 0)::bigint AS cache_read,
  coalesce(sum(d.cache_write_tokens), 0)::bigint AS cache_write,
  coalesce(sum(d.cost_usd), 0) AS cost_usd,
  coalesce(sum(d.unpriced_calls), 0)::bigint AS unpriced_calls
FROM days s LEFT JOIN daily_usage d
  ON d.day = s.day AND d.tenant_id = $1 AND ($2::text IS NULL OR d.user_id = $2)
GROUP BY s.day ORDER BY s.day DESC
