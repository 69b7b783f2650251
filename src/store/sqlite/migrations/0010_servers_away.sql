-- A server whose file is away for a moment (a checkout, a deployment) keeps the word of whoever accepted its command.

ALTER TABLE servers ADD COLUMN away_since INTEGER;     -- when a sync found the server in no file any more; null while it is in one
