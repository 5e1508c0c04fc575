-- Whether workers may start jobs: a single row, so that there is a single answer.
CREATE TABLE queue_control (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  paused_at timestamptz,
  paused_by text,
  reason text,
  CONSTRAINT a_pause_is_somebodys CHECK ((paused_at IS NULL) = (paused_by IS NULL)),
  CONSTRAINT only_a_pause_has_a_reason CHECK (reason IS NULL OR paused_at IS NOT NULL)
);
INSERT INTO queue_control DEFAULT VALUES;
