-- Runs that others wait for are claimed before those that nobody waits for. Whether any agent is paused is asked with every submit.

DROP INDEX runs_queued;
CREATE INDEX runs_queued ON runs (parent_run_id IS NULL, created_at, id, agent_id, parent_run_id) WHERE status = 'queued';
CREATE INDEX agents_paused ON agents (id) WHERE paused_at IS NOT NULL;
