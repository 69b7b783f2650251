-- A pause outlasts the agent's file: runs that it holds stay held while the file is away, and a file that comes back comes back paused.

CREATE TABLE paused_without_file (
    name      TEXT    PRIMARY KEY,                     -- the agent's name
    agent_id  INTEGER NOT NULL UNIQUE,                 -- its id, which it gets back
    paused_at INTEGER NOT NULL                         -- since when it has been paused
) STRICT;
