-- Say whether this role may accept jobs, and whether it is kept from seeing everybody's.
SELECT row_security_active('jobs') AS is_confined,
  has_function_privilege(p.oid, 'EXECUTE') AND has_table_privilege('api_keys', 'SELECT') AS is_able
FROM pg_proc p WHERE p.oid = to_regproc('accept_jobs')
