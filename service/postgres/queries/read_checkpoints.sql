-- Read the finished model calls of jobs.
-- $1 job ids
SELECT job_id, step, output FROM checkpoints WHERE job_id = ANY ($1::uuid[])
