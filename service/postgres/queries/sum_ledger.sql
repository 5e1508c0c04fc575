-- Sum up a job's ledger; cost is null if any call has no known price.
-- $1 job id
SELECT
  coalesce(sum(input_tokens), 0)::bigint AS input,
  coalesce(sum(output_tokens), 0)::bigint AS output,
  coalesce(sum(cache_read_tokens), 0)::bigint AS cache_read,
  coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write,
  coalesce(bool_or(estimated), false) AS estimated,
  CASE WHEN count(*) = count(cost_usd) THEN coalesce(sum(cost_usd), 0) END AS cost_usd,
  coalesce(array_agg(DISTINCT model ORDER BY model), '{}') AS models,
  count(*) AS calls
FROM usage_records WHERE job_id = $1 AND ending IS NOT NULL
