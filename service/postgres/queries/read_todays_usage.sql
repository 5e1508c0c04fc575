-- Read what an owner has used today, and what the jobs that have not ended still reserve of it.
-- $1 tenant, $2 user (null: the whole tenant)
WITH today AS MATERIALIZED (
  SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day
), used AS (
  SELECT
    coalesce(sum(request_count), 0)::bigint AS requests,
    coalesce(sum(input_tokens), 0)::bigint AS input,
    coalesce(sum(output_tokens), 0)::bigint AS output,
    coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read,
    coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write,
    coalesce(sum(cost_usd), 0) AS cost_usd,
    coalesce(sum(unpriced_calls), 0)::bigint AS unpriced_calls
  FROM daily_usage
  WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2) AND day = (SELECT day FROM today)
), active AS (
  SELECT count(*) AS active_jobs,
    coalesce(sum(reserved_tokens) FILTER (WHERE reserved_on = (SELECT day FROM today)), 0)::bigint
      AS reserved_tokens
  FROM jobs
  WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2)
    -- The tokens lead to the index of what has not ended.
    AND status IN ('queued', 'processing') AND reserved_tokens >= 0
)
SELECT * FROM today, used, active
