-- Read how many of the day's tokens of a job's owner are used; no row if he may use any number.
-- $1 job id
-- Answers his limit as it is now, what one iteration of the job was planned with, and the seconds
-- that are left of the day.
SELECT limited.tokens_per_day AS limit, coalesce(
    d.input_tokens + d.output_tokens + d.cache_read_tokens + d.cache_write_tokens, 0
  ) AS used,
  j.planned_tokens / greatest(1, cardinality(j.iterations)) AS expected,
  extract(epoch FROM today.day + 1 - clock_timestamp() AT TIME ZONE 'UTC')::float8 AS seconds_left
FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day) AS today
JOIN jobs j ON j.id = $1
LEFT JOIN user_limits l ON l.tenant_id = j.tenant_id AND l.user_id = j.user_id
CROSS JOIN LATERAL (
  SELECT CASE
    WHEN l.overrides ? 'tokens_per_day' THEN (l.overrides ->> 'tokens_per_day')::bigint
    ELSE j.tokens_per_day
  END AS tokens_per_day
) AS limited
LEFT JOIN daily_usage d
  ON d.tenant_id = j.tenant_id AND d.user_id = j.user_id AND d.day = today.day
WHERE limited.tokens_per_day IS NOT NULL
