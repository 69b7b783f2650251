-- Runs that others wait for are claimed before those that nobody waits for.

DROP INDEX runs_queued;
CREATE INDEX runs_queued ON runs (parent_run_id IS NULL, created_at, id, agent_id, parent_run_id) WHERE status = 'queued';
