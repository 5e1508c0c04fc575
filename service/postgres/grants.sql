-- What the roles usa_api and usa_worker may do; may be run again and again, while both are at work.
-- Where there are no such roles, or no tables yet, the one that migrates does everything.
DO $$
DECLARE
  v_schema text := current_schema();
  v_policy record;
  v_visible text := $visible$
    tenant_id = nullif(current_setting('usa.tenant', true), '')
    AND (
      current_setting('usa.whole_tenant', true) = 'on'
      OR user_id = current_setting('usa.user', true)
    )
  $visible$;
BEGIN
  IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('usa_api', 'usa_worker')) < 2
    OR to_regclass('queue_control') IS NULL
  THEN
    RETURN;
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO usa_api, usa_worker', v_schema);
  -- In clusters that are older than Postgres 15 everybody may create functions there, and what runs
  -- as our owner could take one of them for another. Who is not the schema's owner is only warned.
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, usa_api, usa_worker', v_schema);
  GRANT SELECT ON schema_migrations TO usa_api, usa_worker;

  -- Runs jobs and keeps the queue in order, whoever they belong to.
  GRANT SELECT, INSERT, UPDATE, DELETE
    ON jobs, checkpoints, usage_records, daily_usage, idempotency_keys TO usa_worker;
  GRANT SELECT ON user_limits TO usa_worker;
  GRANT SELECT, UPDATE ON queue_control TO usa_worker;

  -- Answers requests. A job is accepted by a function, and of one that is there the api may only
  -- write that it is cancelled, or erase it when it has ended.
  GRANT EXECUTE ON FUNCTION accept_jobs TO usa_api;
  GRANT SELECT ON jobs, checkpoints, usage_records, daily_usage, user_limits, api_keys TO usa_api;
  GRANT UPDATE (
    status, attempt, completed_at, lease_until, reserved_tokens, final_event_id, event_pending
  ) ON jobs TO usa_api;
  GRANT DELETE ON jobs TO usa_api;
  GRANT UPDATE (last_used_at) ON api_keys TO usa_api;

  -- Both walls stand in every query of the api: its own conditions, and these. One that is as it
  -- should be, which its comment tells, is left alone: to make it anew locks its table.
  FOR v_policy IN
    SELECT p.on_table, p.name, p.definition, md5(p.definition) AS mark
    FROM (
      SELECT t.on_table, 'worker_sees_all', 'TO usa_worker USING (true) WITH CHECK (true)'
      FROM unnest(ARRAY['jobs', 'checkpoints', 'usage_records', 'daily_usage']) AS t (on_table)
      UNION ALL
      SELECT t.on_table, 'api_sees_its_caller', format('FOR SELECT TO usa_api USING (%s)', v_visible)
      FROM unnest(ARRAY['jobs', 'usage_records', 'daily_usage']) AS t (on_table)
      UNION ALL VALUES
        -- Whose job is seen: the policy of jobs holds in here as well.
        ('checkpoints', 'api_sees_its_caller',
          'FOR SELECT TO usa_api USING (EXISTS (SELECT FROM jobs j WHERE j.id = job_id))'),
        ('jobs', 'api_cancels', format(
          'FOR UPDATE TO usa_api USING (%1$s AND status IN (''queued'', ''processing''))'
          ' WITH CHECK (%1$s AND status = ''cancelled'')', v_visible)),
        ('jobs', 'api_purges', format(
          'FOR DELETE TO usa_api'
          ' USING (%s AND status IN (''completed'', ''failed'', ''cancelled''))', v_visible))
    ) AS p (on_table, name, definition)
  LOOP
    CONTINUE WHEN EXISTS (
      SELECT FROM pg_policy
      WHERE polrelid = to_regclass(format('%I.%I', v_schema, v_policy.on_table))
        AND polname = v_policy.name
        AND obj_description(oid, 'pg_policy') = v_policy.mark
    );
    EXECUTE format('DROP POLICY IF EXISTS %I ON %I', v_policy.name, v_policy.on_table);
    EXECUTE format(
      'CREATE POLICY %I ON %I %s', v_policy.name, v_policy.on_table, v_policy.definition
    );
    EXECUTE format(
      'COMMENT ON POLICY %I ON %I IS %L', v_policy.name, v_policy.on_table, v_policy.mark
    );
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_policy.on_table);
  END LOOP;
END
$$;
