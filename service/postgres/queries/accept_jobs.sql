-- Accept jobs, each by its user's limits, bind their idempotency keys and count the requests.
-- $1 ids, $2 tenants, $3 users, $4 agents, $5 modes, $6 stories, $7 iterations (JSON),
-- $8 options (JSON), $9 deadlines (s), $10 tokens to reserve, $11 trace parents, $12 request ids,
-- $13 idempotency keys, $14 fingerprints, $15 requests per day, $16 tokens per day,
-- $17 concurrent jobs, $18 user's stream limit, $19 limit of the queue (0: none)
-- Answers one verdict each, with the row, whether its entry may be added at once, and the queued
-- jobs ahead; for `bound` the row that has the key. Without what its sender wrote and its result: a
-- backend whose client has stopped keeps its locks until all of the answer is written.
SELECT a.verdict, a.ring_now, a.ahead, a.bound_fingerprint, a.active, a.requests, a.tokens, a.wanted,
  extract(epoch FROM
    date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + interval '1 day'
    - clock_timestamp() AT TIME ZONE 'UTC'
  )::float8 AS day_left,
  (a.job).id, (a.job).tenant_id, (a.job).user_id, (a.job).agent, (a.job).mode, '' AS story,
  (a.job).iterations, '{}'::jsonb AS options, (a.job).status, (a.job).attempt, (a.job).error_count,
  (a.job).crash_count, (a.job).handback_count, (a.job).created_at, (a.job).started_at,
  (a.job).completed_at, (a.job).available_at, (a.job).deadline_at, NULL::jsonb AS result,
  (a.job).error, (a.job).final_event_id, (a.job).trace_parent, (a.job).request_id
FROM accept_jobs(
  $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::float8[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::bigint[],
  $16::bigint[], $17::bigint[], $18::integer, $19::integer
) AS a
ORDER BY a.place
