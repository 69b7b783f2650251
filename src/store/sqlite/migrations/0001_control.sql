-- The control store: what concerns the station as a whole. Times are unix milliseconds, UTC; JSON is kept as text.

CREATE TABLE environments (
    number     INTEGER PRIMARY KEY AUTOINCREMENT       -- 1 to 4095, carried by run ids; AUTOINCREMENT never gives one out twice
               CHECK (number BETWEEN 1 AND 4095),
    name       TEXT    NOT NULL UNIQUE,                -- what people call it; also its directory and its store's file
    created_at INTEGER NOT NULL                        -- when it was created
) STRICT;

CREATE TABLE audit (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT, -- position in this store; the JSON line carries the same number
    at              INTEGER NOT NULL,                  -- when the act happened
    principal_kind  TEXT    NOT NULL,                  -- who acted: the kind of actor
    principal_id    TEXT    NOT NULL,                  -- who acted: the actor's id within its kind
    principal_name  TEXT    NOT NULL,                  -- who acted: as people read it
    origin          TEXT    NOT NULL,                  -- the door it came through
    cause           TEXT    NOT NULL,                  -- JSON: why it happened at all
    action          TEXT    NOT NULL,                  -- `<noun>.<verb>`
    target          TEXT,                              -- what it was done to
    environment     TEXT,                              -- where, by name; null for the station as a whole
    outcome         TEXT    NOT NULL,                  -- started, done, failed or denied
    reason          TEXT,                              -- with failed and denied: the error's kind and message
    request_id      TEXT    NOT NULL,                  -- finds the request's lines in the log
    config_revision TEXT,                              -- the files' state that the act was done under
    details         TEXT                               -- JSON: small structured facts; never arguments or results
) STRICT;
