-- Read one job, whoever owns it: for workers and maintenance.
-- $1 job id
SELECT * FROM jobs WHERE id = $1
