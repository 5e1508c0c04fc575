-- Say whether this role may accept jobs, and what it must not: see or change what is not its own.
-- A function that it puts beside ours `accept_jobs` could take for one of Postgres.
SELECT row_security_active('jobs') AS is_confined,
  NOT has_schema_privilege(p.pronamespace, 'CREATE') AS is_kept_out,
  has_function_privilege(p.oid, 'EXECUTE') AND has_table_privilege('api_keys', 'SELECT') AS is_able
FROM pg_proc p WHERE p.oid = to_regproc('accept_jobs')
