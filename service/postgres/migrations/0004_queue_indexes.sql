-- Postgres plans by what it last counted. If no job was queued then, any index of the queued ones
-- seemed to be as good as any other, and it read the whole queue by these two, once for each user.
-- Now they serve only who compares the time that they are sorted by.
DROP INDEX jobs_overdue, jobs_queued_by_age;
CREATE INDEX jobs_overdue ON jobs (deadline_at)
  WHERE status = 'queued' AND deadline_at IS NOT NULL;
CREATE INDEX jobs_queued_by_age ON jobs (created_at)
  WHERE status = 'queued' AND created_at IS NOT NULL;
