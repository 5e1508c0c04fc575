-- Accept jobs, each by its user's limits, bind their idempotency keys and count the requests.
-- $1 ids, $2 tenants, $3 users, $4 agents, $5 modes, $6 stories, $7 iterations (JSON),
-- $8 options (JSON), $9 deadlines (s), $10 tokens to reserve, $11 trace parents, $12 request ids,
-- $13 idempotency keys, $14 fingerprints, $15 requests per day, $16 tokens per day,
-- $17 concurrent jobs, $18 user's stream limit, $19 limit of the queue (0: none)
-- Answers one verdict each, with the row, whether its entry may be added at once, and the queued
-- jobs ahead; for `bound` the row that has the key.
SELECT a.verdict, a.ring_now, a.ahead, a.bound_fingerprint, a.active, a.requests, a.tokens, a.wanted,
  extract(epoch FROM
    date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + interval '1 day'
    - clock_timestamp() AT TIME ZONE 'UTC'
  )::float8 AS day_left,
  (a.job).*
FROM accept_jobs(
  $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
  $9::float8[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::bigint[],
  $16::bigint[], $17::bigint[], $18::integer, $19::integer
) AS a
ORDER BY a.place
