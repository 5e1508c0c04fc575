-- The roles of the service, made once per cluster by an administrator; then run `usa migrate` as
-- usa_migrate, which grants each of them what it needs, now and with every later version:
--
--   usa_migrate  owns the schema; `usa migrate`, `usa keys` and `usa limits` (DATABASE_URL)
--   usa_worker   runs jobs and keeps the queue in order, sees no API key (DATABASE_URL)
--   usa_api      answers requests, sees one owner at a time (USA_API_DATABASE_URL)
--
--   psql -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--   psql -c '\password usa_worker'   and so on
--
-- The database belongs to usa_migrate: CREATE DATABASE usa OWNER usa_migrate
-- Before Postgres 15 its schema does not, and lets everybody in; then there, as an administrator:
-- ALTER SCHEMA public OWNER TO usa_migrate
DO $$
DECLARE
  v_role text;
BEGIN
  FOREACH v_role IN ARRAY ARRAY['usa_migrate', 'usa_worker', 'usa_api'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', v_role);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;  -- Roles belong to the whole cluster; another database's may be there already.
    END;
  END LOOP;
END
$$;
