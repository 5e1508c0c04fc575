-- What one user may do beyond or below a tier: names of limits with their values, null for none.
CREATE TABLE user_limits (
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  overrides jsonb NOT NULL CHECK (jsonb_typeof(overrides) = 'object'),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, user_id)
);

-- The daily tokens that the job was accepted with: whoever runs it knows no tier (null: no limit).
ALTER TABLE jobs ADD COLUMN tokens_per_day bigint CHECK (tokens_per_day >= 0);

-- The tokens are in it so that it serves only who names them: it holds the whole queue, and
-- Postgres would otherwise take it for a way to the few queued jobs that are due.
CREATE INDEX jobs_of_owner_not_ended ON jobs (tenant_id, user_id)
  WHERE status IN ('queued', 'processing') AND reserved_tokens >= 0;

CREATE FUNCTION find_bound_job(a_tenant text, a_user text, a_key text)
RETURNS TABLE (fingerprint bytea, j jobs)
LANGUAGE sql STABLE
AS $$
  SELECT k.fingerprint, j FROM idempotency_keys k JOIN jobs j ON j.id = k.job_id
  WHERE k.tenant_id = a_tenant AND k.user_id = a_user AND k.key = a_key
    AND k.expires_at > clock_timestamp()
$$;

CREATE FUNCTION lock_of_user(a_tenant text, a_user text) RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$ SELECT hashtextextended(a_user, hashtextextended(a_tenant, 1970238208)) $$;

-- How much of a user's limits is taken: by jobs that have not ended, and of a day. Who has no limit
-- on either may have any number of jobs, and they are not counted.
CREATE FUNCTION standing_of(a_tenant text, a_user text, a_day date, a_is_limited boolean)
RETURNS TABLE (active bigint, requests bigint, tokens bigint)
LANGUAGE sql VOLATILE
AS $$
  SELECT j.active, d.requests, (j.reserved + d.used)::bigint
  FROM (
    SELECT count(*) AS active,
      coalesce(sum(reserved_tokens) FILTER (WHERE reserved_on = a_day), 0) AS reserved
    FROM jobs
    WHERE a_is_limited AND tenant_id = a_tenant AND user_id = a_user
      AND status IN ('queued', 'processing') AND reserved_tokens >= 0
  ) AS j, (
    SELECT coalesce(max(request_count), 0) AS requests, coalesce(max(
        input_tokens + output_tokens + cache_read_tokens + cache_write_tokens
      ), 0) AS used
    FROM daily_usage WHERE tenant_id = a_tenant AND user_id = a_user AND day = a_day
  ) AS d
$$;

-- Decides many submissions at once, each by all that were accepted before it, anywhere: under READ
-- COMMITTED every statement in here sees what was committed before it began, and who comes second
-- to a user's lock begins after the first has committed. One statement alone would count by a
-- snapshot from before it had waited.
CREATE FUNCTION accept_jobs(
  a_ids uuid[], a_tenants text[], a_users text[], a_agents text[], a_modes text[], a_stories text[],
  a_iterations text[], a_options text[], a_deadlines float8[], a_tokens bigint[],
  a_trace_parents text[], a_request_ids text[], a_keys text[], a_fingerprints bytea[],
  a_requests_per_day bigint[], a_tokens_per_day bigint[], a_concurrent_jobs bigint[],
  a_user_in_stream integer, a_queue_limit integer
) RETURNS TABLE (
  place integer, verdict text, ring_now boolean, ahead integer, bound_fingerprint bytea,
  active bigint, requests bigint, tokens bigint, wanted bigint, job jobs
)
LANGUAGE plpgsql
SECURITY DEFINER
AS $$
#variable_conflict use_column
DECLARE
  -- More than all processes together may be committing without having counted each other: each of
  -- their two lanes holds a hundred. A queue that has come so far does not empty for a while.
  c_margin CONSTANT integer := greatest(5000, a_queue_limit / 2);
  c_farthest CONSTANT integer := 1001;
  v_item record;
  v_row record;
  v_lock bigint;
  v_today date;
  v_depth integer;
BEGIN
  -- In one order, so that no two batches wait for each other.
  FOR v_lock IN
    SELECT DISTINCT lock_of_user(u.tenant_id, u.user_id) AS lock
    FROM unnest(a_tenants, a_users) AS u (tenant_id, user_id) ORDER BY lock
  LOOP
    PERFORM pg_advisory_xact_lock(v_lock);
  END LOOP;
  FOR v_turn IN 1..2 LOOP
    SELECT count(*) INTO v_depth FROM (
      SELECT 1 FROM jobs WHERE status = 'queued' AND created_at > '-infinity'
      LIMIT greatest(c_farthest, a_queue_limit)
    ) AS queued;
    EXIT WHEN a_queue_limit = 0 OR v_depth + c_margin < a_queue_limit OR v_turn = 2;
    -- Near the limit one batch is decided after the other, and counts again.
    PERFORM pg_advisory_xact_lock(7697249, 5);
  END LOOP;
  IF a_queue_limit > 0 AND v_depth + cardinality(a_ids) > a_queue_limit THEN
    -- What waits for its time, as long as a day for new tokens, keeps nobody else's from its turn.
    SELECT count(*) INTO v_depth FROM (
      SELECT 1 FROM jobs
      WHERE status = 'queued' AND created_at > '-infinity' AND available_at <= clock_timestamp()
      LIMIT a_queue_limit
    ) AS due;
  END IF;
  v_today := (clock_timestamp() AT TIME ZONE 'UTC')::date;

  FOR v_item IN
    SELECT * FROM unnest(
      a_ids, a_tenants, a_users, a_agents, a_modes, a_stories, a_iterations, a_options, a_deadlines,
      a_tokens, a_trace_parents, a_request_ids, a_keys, a_fingerprints, a_requests_per_day,
      a_tokens_per_day, a_concurrent_jobs
    ) WITH ORDINALITY AS i (
      id, tenant_id, user_id, agent, mode, story, iterations, options, deadline, tokens,
      trace_parent, request_id, key, fingerprint, requests_per_day, tokens_per_day,
      concurrent_jobs, place
    )
    -- As every statement that books days: no two wait for each other's.
    ORDER BY tenant_id, user_id, place
  LOOP
    place := v_item.place;
    verdict := NULL; ring_now := false; ahead := NULL; bound_fingerprint := NULL; job := NULL;
    active := NULL; requests := NULL; tokens := NULL; wanted := v_item.tokens;

    SELECT b.fingerprint, b.j INTO v_row
    FROM find_bound_job(v_item.tenant_id, v_item.user_id, v_item.key) AS b;
    IF FOUND THEN
      verdict := 'bound'; bound_fingerprint := v_row.fingerprint; job := v_row.j;
      RETURN NEXT;
      CONTINUE;
    END IF;

    SELECT s.active, s.requests, s.tokens INTO active, requests, tokens
    FROM standing_of(
      v_item.tenant_id, v_item.user_id, v_today,
      coalesce(v_item.concurrent_jobs, v_item.tokens_per_day) IS NOT NULL
    ) AS s;
    verdict := CASE
      WHEN a_queue_limit > 0 AND v_depth >= a_queue_limit THEN 'queue_full'
      WHEN active >= v_item.concurrent_jobs THEN 'concurrent_jobs'
      WHEN requests >= v_item.requests_per_day THEN 'requests_per_day'
      WHEN tokens + v_item.tokens > v_item.tokens_per_day THEN 'tokens_per_day'
      ELSE 'accepted'
    END;
    IF verdict <> 'accepted' THEN
      RETURN NEXT;
      CONTINUE;
    END IF;

    WITH bound AS (
      -- Processes of a version before this one bind keys without the user's lock: it waits for one
      -- that has not ended yet, and yields to it.
      INSERT INTO idempotency_keys AS k (tenant_id, user_id, key, fingerprint, job_id)
      SELECT v_item.tenant_id, v_item.user_id, v_item.key, v_item.fingerprint, v_item.id
      WHERE v_item.key IS NOT NULL
      ON CONFLICT (tenant_id, user_id, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, job_id = excluded.job_id,
        expires_at = excluded.expires_at
      WHERE k.expires_at <= clock_timestamp()
      RETURNING k.job_id
    ), in_stream AS (
      SELECT a_user_in_stream = 0 OR count(*) < a_user_in_stream AS has_room FROM (
        (SELECT 1 FROM jobs
         WHERE tenant_id = v_item.tenant_id AND user_id = v_item.user_id
           AND status = 'queued' AND entry_id IS NOT NULL
         LIMIT a_user_in_stream)
        UNION ALL
        (SELECT 1 FROM jobs
         WHERE tenant_id = v_item.tenant_id AND user_id = v_item.user_id
           AND status = 'queued' AND entry_id IS NULL
           AND relay_after > (SELECT clock_timestamp()) AND available_at <= clock_timestamp()
         LIMIT a_user_in_stream)
      ) AS undelivered
    ), inserted AS (
      INSERT INTO jobs AS j (
        id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at,
        time_allowed, reserved_tokens, planned_tokens, reserved_on, tokens_per_day, trace_parent,
        request_id, relay_after
      )
      SELECT v_item.id, v_item.tenant_id, v_item.user_id, v_item.agent, v_item.mode, v_item.story,
        ARRAY(SELECT jsonb_array_elements_text(v_item.iterations::jsonb)), v_item.options::jsonb,
        clock_timestamp() + make_interval(secs => v_item.deadline),
        make_interval(secs => v_item.deadline), v_item.tokens, v_item.tokens, v_today,
        v_item.tokens_per_day, v_item.trace_parent, v_item.request_id,
        clock_timestamp() + CASE WHEN has_room THEN interval '3 seconds' ELSE interval '0' END
      FROM in_stream
      WHERE v_item.key IS NULL OR EXISTS (SELECT FROM bound)
      RETURNING j
    ), counted AS (
      INSERT INTO daily_usage AS d (tenant_id, user_id, day, request_count)
      SELECT v_item.tenant_id, v_item.user_id, v_today, 1 FROM inserted
      ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET request_count = d.request_count + 1
    )
    SELECT i.j, s.has_room INTO v_row FROM inserted i, in_stream s;

    IF NOT FOUND THEN
      SELECT b.fingerprint, b.j INTO v_row
      FROM find_bound_job(v_item.tenant_id, v_item.user_id, v_item.key) AS b;
      verdict := CASE WHEN FOUND THEN 'bound' ELSE 'in_flight' END;
      bound_fingerprint := v_row.fingerprint; job := v_row.j;
      RETURN NEXT;
      CONTINUE;
    END IF;

    job := v_row.j;
    ring_now := v_row.has_room;
    ahead := v_depth;
    v_depth := v_depth + 1;
    active := active + 1;
    requests := requests + 1;
    tokens := tokens + v_item.tokens;
    RETURN NEXT;
  END LOOP;
END
$$;

-- Says whether one job of an owner's may be queued again, and keeps its user's lock: whoever else
-- wants a place waits until that is committed. A job that is not there has room.
CREATE FUNCTION redrive_room(
  a_id uuid, a_tenant text, a_user text, a_tokens_per_day bigint, a_concurrent_jobs bigint
) RETURNS TABLE (verdict text, active bigint, requests bigint, tokens bigint, wanted bigint)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  v_job record;
BEGIN
  verdict := 'accepted';
  SELECT j.tenant_id, j.user_id, j.planned_tokens INTO v_job FROM jobs j
  WHERE j.id = a_id AND j.tenant_id = a_tenant AND (a_user IS NULL OR j.user_id = a_user)
    AND coalesce(a_tokens_per_day, a_concurrent_jobs) IS NOT NULL;
  IF FOUND THEN
    PERFORM pg_advisory_xact_lock(lock_of_user(v_job.tenant_id, v_job.user_id));
    SELECT s.active, s.requests, s.tokens INTO active, requests, tokens
    FROM standing_of(
      v_job.tenant_id, v_job.user_id, (clock_timestamp() AT TIME ZONE 'UTC')::date, true
    ) AS s;
    wanted := v_job.planned_tokens;
    verdict := CASE
      WHEN active >= a_concurrent_jobs THEN 'concurrent_jobs'
      WHEN tokens + wanted > a_tokens_per_day THEN 'tokens_per_day'
      ELSE 'accepted'
    END;
  END IF;
  RETURN NEXT;
END
$$;

-- A temporary table of a caller must never stand for one of ours.
DO $$
BEGIN
  EXECUTE format(
    'ALTER FUNCTION accept_jobs SET search_path = pg_catalog, %I, pg_temp', current_schema()
  );
END
$$;
REVOKE EXECUTE ON FUNCTION accept_jobs, find_bound_job FROM PUBLIC;
