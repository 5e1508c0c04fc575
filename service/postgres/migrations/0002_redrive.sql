-- What a redrive gives a job again: as many tokens and as much time as it was accepted with.
-- Without a default for the time: rows of before, and of processes that do not know it, tell it
-- by their first deadline.
ALTER TABLE jobs
  ADD COLUMN planned_tokens bigint NOT NULL DEFAULT 0 CHECK (planned_tokens >= 0),
  ADD COLUMN time_allowed interval;

CREATE INDEX jobs_failed ON jobs (completed_at DESC, id DESC) WHERE status = 'failed';
