-- Write down model calls about to be made, where their attempts are still current.
-- $1 job ids, $2 attempts, $3 calls, $4 tenants, $5 users, $6 steps, $7 models,
-- $8 expected input tokens, $9 expected costs
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
), opened AS (
  INSERT INTO usage_records (
    job_id, attempt, call, tenant_id, user_id, step, model, expected_input_tokens,
    expected_cost_usd
  )
  SELECT job_id, attempt, call, tenant_id, user_id, step, model, expected_input, expected_cost
  FROM current ORDER BY job_id, attempt, call
  ON CONFLICT DO NOTHING
)
SELECT i.position, c.job_id IS NOT NULL AS current
FROM item i LEFT JOIN current c ON c.position = i.position
ORDER BY i.position
