-- Time that several calls of a run waited for people side by side counts once for the run.

ALTER TABLE runs ADD COLUMN given_until INTEGER;       -- up to when time that its calls waited for people is counted in `waited_ms`
