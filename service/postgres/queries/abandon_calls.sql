-- Write off the calls that earlier attempts left open when they were cut off.
-- $1 job ids, $2 their attempts now
-- Answers what was booked for each model.
WITH left_open AS (
  SELECT u.job_id, u.attempt, u.call
  FROM usage_records u
  JOIN unnest($1::uuid[], $2::integer[]) AS i (job_id, attempt)
    ON u.job_id = i.job_id AND u.attempt < i.attempt
  WHERE u.ending IS NULL
  ORDER BY u.job_id, u.attempt, u.call
  FOR UPDATE OF u
), closed AS (
  UPDATE usage_records u SET
    ending = 'abandoned', closed_at = clock_timestamp(), estimated = true,
    input_tokens = u.expected_input_tokens, cost_usd = u.expected_cost_usd
  FROM left_open o
  WHERE u.job_id = o.job_id AND u.attempt = o.attempt AND u.call = o.call AND u.ending IS NULL
  RETURNING u.model, u.tenant_id, u.user_id, u.day, u.input_tokens, u.cost_usd
), booked AS (
  INSERT INTO daily_usage AS d (tenant_id, user_id, day, input_tokens, cost_usd, unpriced_calls)
  SELECT tenant_id, user_id, day, sum(input_tokens), coalesce(sum(cost_usd), 0),
    count(*) FILTER (WHERE cost_usd IS NULL)
  FROM closed GROUP BY tenant_id, user_id, day ORDER BY tenant_id, user_id, day
  ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET
    input_tokens = d.input_tokens + excluded.input_tokens,
    cost_usd = d.cost_usd + excluded.cost_usd,
    unpriced_calls = d.unpriced_calls + excluded.unpriced_calls
)
SELECT model, count(*) AS calls, sum(input_tokens)::bigint AS input, 0 AS output, 0 AS cache_read,
  0 AS cache_write, coalesce(sum(cost_usd), 0) AS cost_usd
FROM closed GROUP BY model
