-- Agents that are paused, whatever their files say. What is queued of them isn't claimed, so the queue's index knows the agent too.
ALTER TABLE agents ADD COLUMN paused_at INTEGER; -- since when no run of it is taken; null while it isn't paused

DROP INDEX runs_queued;
CREATE INDEX runs_queued ON runs (created_at, id, agent_id) WHERE status = 'queued';
