-- What a run may use together with all that it calls, fixed when it was submitted.
ALTER TABLE runs ADD COLUMN max_tokens INTEGER; -- input and output tokens of the tree; null: unlimited
ALTER TABLE runs ADD COLUMN max_cost_microusd INTEGER; -- millionths of a US dollar of the tree; null: unlimited
