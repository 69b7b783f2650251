-- A cost that nobody knows is none, and not 0. Until now no price was known at all, so that nothing is lost.
ALTER TABLE runs DROP COLUMN cost_microusd;
ALTER TABLE runs ADD COLUMN cost_microusd INTEGER; -- consumed so far: millionths of a US dollar; null as long as no price was known
UPDATE steps SET cost_microusd = NULL;
