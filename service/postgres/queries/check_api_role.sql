-- Say whether this role may accept jobs, whether it is kept from seeing everybody's, and whether it
-- is kept from putting functions beside ours, which `accept_jobs` could take for those of Postgres.
SELECT row_security_active('jobs') AS is_confined,
  NOT has_schema_privilege(p.pronamespace, 'CREATE') AS is_kept_out,
  has_function_privilege(p.oid, 'EXECUTE') AND has_table_privilege('api_keys', 'SELECT') AS is_able
FROM pg_proc p WHERE p.oid = to_regproc('accept_jobs')
