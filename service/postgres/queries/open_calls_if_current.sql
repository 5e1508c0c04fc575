-- Write down model calls about to be made, where their attempts are still current.
-- $1 job ids, $2 attempts, $3 calls, $4 tenants, $5 users, $6 steps, $7 models,
-- $8 expected input tokens, $9 expected costs
-- Answers whether each is current, and whether it pays again for what was lost with an attempt.
WITH item AS (
  SELECT * FROM unnest(
    $1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::bigint[], $9::numeric[]
  ) WITH ORDINALITY AS i (
    job_id, attempt, call, tenant_id, user_id, step, model, expected_input, expected_cost, position
  )
), locked AS (
  -- A claim or cancellation under way is waited for, so that none leaves a call open behind it.
  SELECT j.id, j.attempt, j.status FROM jobs j WHERE j.id = ANY ($1::uuid[])
  ORDER BY j.id
  FOR UPDATE
), current AS (
  SELECT i.* FROM item i
  JOIN locked l ON l.id = i.job_id AND l.attempt = i.attempt AND l.status = 'processing'
), opening AS (
  SELECT DISTINCT ON (job_id, attempt, call) * FROM current
  ORDER BY job_id, attempt, call, position
), opened AS (
  INSERT INTO usage_records (
    job_id, attempt, call, tenant_id, user_id, step, model, expected_input_tokens,
    expected_cost_usd
  )
  SELECT job_id, attempt, call, tenant_id, user_id, step, model, expected_input, expected_cost
  FROM opening ORDER BY job_id, attempt, call
  ON CONFLICT DO NOTHING
  RETURNING job_id, attempt, call
), repeated AS (
  SELECT o.position FROM opening o JOIN opened USING (job_id, attempt, call)
  -- Not what failed: that would have been tried again without any loss.
  WHERE EXISTS (
    SELECT FROM usage_records u
    WHERE u.job_id = o.job_id AND u.attempt < o.attempt AND u.step = o.step
      AND u.ending <> 'failed'
      AND u.input_tokens + u.output_tokens + u.cache_read_tokens + u.cache_write_tokens > 0
  )
)
SELECT i.position, c.job_id IS NOT NULL AS current, r.position IS NOT NULL AS repeated
FROM item i LEFT JOIN current c ON c.position = i.position
LEFT JOIN repeated r ON r.position = i.position
ORDER BY i.position
