-- Runs that wait for somebody are few, and are listed by how long they have.
CREATE INDEX runs_parked ON runs (parked_at, id) WHERE status = 'input_required';
