CREATE TABLE jobs (
  id uuid PRIMARY KEY,
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  agent text NOT NULL,
  mode text NOT NULL,
  story text NOT NULL,
  iterations text[] NOT NULL,
  options jsonb NOT NULL,
  status text NOT NULL DEFAULT 'queued'
    CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')),
  attempt integer NOT NULL DEFAULT 0,
  error_count integer NOT NULL DEFAULT 0,
  crash_count integer NOT NULL DEFAULT 0,
  handback_count integer NOT NULL DEFAULT 0,
  worker_id text,
  entry_id text,
  lease_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  available_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  relay_after timestamptz NOT NULL DEFAULT clock_timestamp(),
  deadline_at timestamptz NOT NULL,
  started_at timestamptz,
  completed_at timestamptz,
  result jsonb,
  error jsonb,
  final_event_id text,
  event_pending boolean NOT NULL DEFAULT false,
  reserved_tokens bigint NOT NULL DEFAULT 0 CHECK (reserved_tokens >= 0),
  reserved_on date,
  trace_parent text,
  request_id text,
  CONSTRAINT ended_has_final_event CHECK (
    (status IN ('completed', 'failed', 'cancelled'))
    = (final_event_id IS NOT NULL AND completed_at IS NOT NULL)
  ),
  CONSTRAINT completed_has_result CHECK (status <> 'completed' OR result IS NOT NULL),
  CONSTRAINT failed_has_error CHECK (status <> 'failed' OR error IS NOT NULL),
  CONSTRAINT processing_has_lease CHECK (
    status <> 'processing' OR (lease_until IS NOT NULL AND worker_id IS NOT NULL)
  ),
  CONSTRAINT ended_reserves_nothing CHECK (
    status NOT IN ('completed', 'failed', 'cancelled') OR reserved_tokens = 0
  )
) WITH (fillfactor = 70);

CREATE INDEX jobs_of_owner ON jobs (tenant_id, user_id, created_at DESC, id DESC);
CREATE INDEX jobs_of_tenant ON jobs (tenant_id, created_at DESC, id DESC);
CREATE INDEX jobs_in_stream ON jobs (tenant_id, user_id)
  WHERE status = 'queued' AND entry_id IS NOT NULL;
CREATE INDEX jobs_queued_by_age ON jobs (created_at) WHERE status = 'queued';
CREATE INDEX jobs_to_relay ON jobs (tenant_id, user_id, relay_after)
  WHERE status = 'queued' AND entry_id IS NULL;
CREATE INDEX jobs_overdue ON jobs (deadline_at) WHERE status = 'queued';
-- Not on lease_until: while no index holds it, a renewal touches none.
CREATE INDEX jobs_leased ON jobs (id) WHERE status = 'processing';
CREATE INDEX jobs_owing_event ON jobs (completed_at) WHERE event_pending;

CREATE TABLE checkpoints (
  job_id uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  step text NOT NULL,
  attempt integer NOT NULL,
  output jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (job_id, step)
);

-- Outlives its job: money spent stays written down after a purge.
CREATE TABLE usage_records (
  job_id uuid NOT NULL,
  attempt integer NOT NULL,
  call integer NOT NULL,
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  day date NOT NULL DEFAULT (clock_timestamp() AT TIME ZONE 'UTC')::date,
  step text NOT NULL,
  model text NOT NULL,
  ending text,
  input_tokens bigint NOT NULL DEFAULT 0,
  output_tokens bigint NOT NULL DEFAULT 0,
  cache_read_tokens bigint NOT NULL DEFAULT 0,
  cache_write_tokens bigint NOT NULL DEFAULT 0,
  cost_usd numeric(14, 8),
  estimated boolean NOT NULL DEFAULT true,
  expected_input_tokens bigint NOT NULL,
  expected_cost_usd numeric(14, 8),
  request_id text,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at timestamptz,
  PRIMARY KEY (job_id, attempt, call),
  CONSTRAINT closed_has_ending CHECK ((ending IS NULL) = (closed_at IS NULL)),
  -- One NaN would turn every sum that it enters into NaN.
  CONSTRAINT costs_are_amounts CHECK (
    coalesce(cost_usd, 0) BETWEEN 0 AND 999999 AND coalesce(expected_cost_usd, 0) BETWEEN 0 AND 999999
  ),
  CONSTRAINT tokens_are_counts CHECK (
    least(
      input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, expected_input_tokens
    ) >= 0
  )
) WITH (fillfactor = 80);

CREATE INDEX usage_of_owner ON usage_records (tenant_id, user_id, day);
CREATE INDEX usage_by_age ON usage_records (opened_at);
CREATE INDEX usage_left_open ON usage_records (job_id) WHERE ending IS NULL;

CREATE TABLE daily_usage (
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  day date NOT NULL,
  request_count bigint NOT NULL DEFAULT 0,
  input_tokens bigint NOT NULL DEFAULT 0,
  output_tokens bigint NOT NULL DEFAULT 0,
  cache_read_tokens bigint NOT NULL DEFAULT 0,
  cache_write_tokens bigint NOT NULL DEFAULT 0,
  cost_usd numeric(16, 8) NOT NULL DEFAULT 0,
  unpriced_calls bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, user_id, day)
) WITH (fillfactor = 70);

CREATE TABLE api_keys (
  prefix text PRIMARY KEY CHECK (prefix ~ '^[0-9a-f]{8}$'),
  key_hash bytea NOT NULL,
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  name text NOT NULL,
  scopes text[] NOT NULL,
  tier text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);

CREATE TABLE idempotency_keys (
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  key text NOT NULL,
  fingerprint bytea NOT NULL,
  job_id uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  expires_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '24 hours',
  PRIMARY KEY (tenant_id, user_id, key)
);
CREATE INDEX idempotency_keys_of_job ON idempotency_keys (job_id);
