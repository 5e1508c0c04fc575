-- Say whether this role may run everybody's jobs and keep the queue in order.
SELECT has_table_privilege('jobs', 'INSERT') AND has_table_privilege('jobs', 'DELETE')
  AND has_table_privilege('checkpoints', 'INSERT') AND has_table_privilege('usage_records', 'INSERT')
  AND has_table_privilege('queue_control', 'UPDATE') AS is_able
