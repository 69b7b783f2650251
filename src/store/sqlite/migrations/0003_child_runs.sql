-- Runs that are calls of other runs.
ALTER TABLE runs ADD COLUMN parent_step INTEGER; -- the step of the parent whose call this is; its outcome is written with this run's end

CREATE INDEX runs_by_parent ON runs (parent_run_id, created_at, id) WHERE parent_run_id IS NOT NULL;
