-- Book what model calls used, always; keep their outputs where the attempts are still current.
-- $1 job ids, $2 attempts, $3 calls, $4 models, $5 input, $6 output, $7 cache reads,
-- $8 cache writes, $9 costs, $10 estimated, $11 endings, $12 request ids, $13 steps, $14 outputs
-- Only what this statement itself books counts, so that repeating it changes nothing.
-- Answers whether each attempt is current, and what was added to the books.
WITH item AS (
  SELECT * FROM unnest(
    $1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::numeric[], $10::boolean[], $11::text[], $12::text[], $13::text[], $14::text[]
  ) WITH ORDINALITY AS i (
    job_id, attempt, call, model, input, output_tokens, cache_read, cache_write, cost, estimated,
    ending, request_id, step, output, position
  )
), ending AS (
  SELECT DISTINCT ON (job_id, attempt, call) * FROM item ORDER BY job_id, attempt, call, position
), locked AS (
  SELECT j.id, j.attempt, j.status FROM jobs j WHERE j.id = ANY ($1::uuid[])
  ORDER BY j.id
  FOR UPDATE
), current AS (
  SELECT i.position, i.job_id, i.attempt, i.step, i.output FROM item i
  JOIN locked l ON l.id = i.job_id AND l.attempt = i.attempt AND l.status = 'processing'
), saved AS (
  INSERT INTO checkpoints (job_id, step, attempt, output)
  SELECT job_id, step, attempt, output::jsonb FROM current WHERE output IS NOT NULL
  ON CONFLICT DO NOTHING
  RETURNING job_id
), was AS (
  SELECT u.job_id, u.attempt, u.call, u.input_tokens, u.output_tokens, u.cache_read_tokens,
         u.cache_write_tokens, u.cost_usd, u.ending
  FROM usage_records u JOIN ending e USING (job_id, attempt, call)
  -- A call written off after a crash turns out to have ended after all: its real usage counts.
  WHERE u.ending IS NULL OR u.ending = 'abandoned'
  ORDER BY u.job_id, u.attempt, u.call
  FOR UPDATE OF u
), closed AS (
  UPDATE usage_records u SET
    model = e.model, input_tokens = e.input, output_tokens = e.output_tokens,
    cache_read_tokens = e.cache_read, cache_write_tokens = e.cache_write, cost_usd = e.cost,
    estimated = e.estimated, ending = e.ending, request_id = e.request_id,
    closed_at = clock_timestamp()
  FROM ending e JOIN was w USING (job_id, attempt, call)
  WHERE u.job_id = w.job_id AND u.attempt = w.attempt AND u.call = w.call
  -- The cost as the row keeps it: the sum of rounded costs is not the rounded sum.
  RETURNING e.position, u.job_id, u.attempt, u.tenant_id, u.user_id, u.day,
    u.input_tokens - w.input_tokens AS input,
    u.output_tokens - w.output_tokens AS output_tokens,
    u.cache_read_tokens - w.cache_read_tokens AS cache_read,
    u.cache_write_tokens - w.cache_write_tokens AS cache_write,
    coalesce(u.cost_usd, 0) - coalesce(w.cost_usd, 0) AS cost,
    (u.cost_usd IS NULL)::integer - (w.ending IS NOT NULL AND w.cost_usd IS NULL)::integer
      AS unpriced
), settled AS (
  UPDATE jobs j SET
    reserved_tokens = greatest(0, j.reserved_tokens - s.used),
    -- Progress was made since the last crash, so the job is no longer suspected of causing it.
    crash_count = CASE WHEN s.kept THEN 0 ELSE j.crash_count END
  FROM (
    SELECT c.job_id, EXISTS (SELECT FROM saved WHERE saved.job_id = c.job_id) AS kept,
      sum(c.input + c.output_tokens + c.cache_read + c.cache_write)::bigint AS used
    FROM closed c
    JOIN locked l ON l.id = c.job_id AND l.attempt = c.attempt AND l.status = 'processing'
    GROUP BY c.job_id
  ) s
  WHERE j.id = s.job_id
), booked AS (
  INSERT INTO daily_usage AS d (
    tenant_id, user_id, day, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    cost_usd, unpriced_calls
  )
  SELECT tenant_id, user_id, day, sum(input), sum(output_tokens), sum(cache_read),
    sum(cache_write), sum(cost), sum(unpriced)
  FROM closed GROUP BY tenant_id, user_id, day ORDER BY tenant_id, user_id, day
  ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET
    input_tokens = d.input_tokens + excluded.input_tokens,
    output_tokens = d.output_tokens + excluded.output_tokens,
    cache_read_tokens = d.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = d.cache_write_tokens + excluded.cache_write_tokens,
    cost_usd = d.cost_usd + excluded.cost_usd,
    unpriced_calls = d.unpriced_calls + excluded.unpriced_calls
)
SELECT i.position, c.position IS NOT NULL AS current, i.model, i.ending,
  coalesce(b.input, 0) AS input, coalesce(b.output_tokens, 0) AS output,
  coalesce(b.cache_read, 0) AS cache_read, coalesce(b.cache_write, 0) AS cache_write,
  coalesce(b.cost, 0) AS cost_usd
FROM item i LEFT JOIN current c ON c.position = i.position
LEFT JOIN closed b ON b.position = i.position
ORDER BY i.position
