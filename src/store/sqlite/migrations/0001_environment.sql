-- One environment's own store. Times are unix milliseconds, UTC; booleans are 0 and 1; JSON is kept as text.

CREATE TABLE agents (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,      -- handle in URLs and on the command line; never reused
    name       TEXT    NOT NULL UNIQUE,                -- base name of the file
    revision   TEXT    NOT NULL,                       -- the revision in force: content hash of the last good file
    file       TEXT    NOT NULL,                       -- path relative to the home
    problem    TEXT,                                   -- why the file doesn't parse right now; null while it does
    created_at INTEGER NOT NULL,                       -- when the agent was first seen
    updated_at INTEGER NOT NULL                        -- when its revision or problem last changed
) STRICT;

-- Every revision that was ever in force. Outlives its agent, because runs are pinned to it.
CREATE TABLE agent_revisions (
    agent_id   INTEGER NOT NULL,                       -- the agent; kept after the agent itself is deleted
    revision   TEXT    NOT NULL,                       -- content hash of `bytes`
    definition TEXT    NOT NULL,                       -- JSON: the file's meaning
    bytes      BLOB    NOT NULL,                       -- the file as it was
    created_at INTEGER NOT NULL,                       -- when it first came into force
    PRIMARY KEY (agent_id, revision)
) STRICT;

-- Files that a committed row promised and nobody has confirmed yet.
CREATE TABLE pending_files (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,      -- order of the promises
    file       TEXT    NOT NULL,                       -- path relative to the home
    bytes      BLOB,                                   -- what has to stand there; null: the file has to go
    replaces   TEXT,                                   -- content hash of the file that the change was made against
    created_at INTEGER NOT NULL                        -- when it was promised
) STRICT;

CREATE TABLE servers (
    name          TEXT    PRIMARY KEY,                 -- the MCP server's name in this environment
    file          TEXT    NOT NULL,                    -- path relative to the home of the file that names it
    hash          TEXT    NOT NULL,                    -- content hash of the definition as written
    command_hash  TEXT,                                -- hash of argv, cwd and names of variables; null when the server isn't a command
    command_state TEXT    NOT NULL,                    -- accepted or pending
    created_at    INTEGER NOT NULL,                    -- when the server was first seen
    updated_at    INTEGER NOT NULL                     -- when its definition or state last changed
) STRICT, WITHOUT ROWID;

-- Exactly one row after the first sync.
CREATE TABLE sync_state (
    id              INTEGER PRIMARY KEY CHECK (id = 1), -- there is only one
    config_revision TEXT    NOT NULL,                   -- the files' state that was applied last
    synced_at       INTEGER NOT NULL                    -- when that state was first applied
) STRICT;

-- Narrow on purpose, so that the queue's pages stay few; the long texts of a run are in run_texts.
CREATE TABLE runs (
    id                  TEXT    PRIMARY KEY,           -- UUID, lower case; also the MCP task id
    agent_id            INTEGER NOT NULL,              -- the agent; it may have been deleted since
    agent_name          TEXT    NOT NULL,              -- its name when the run was submitted
    revision            TEXT    NOT NULL,              -- the revision that the run is pinned to
    status              TEXT    NOT NULL               -- where it stands
                        CHECK (status IN ('queued', 'running', 'input_required', 'completed', 'failed', 'cancelled')),
    waiting_for         TEXT,                          -- what a run without a worker waits for
    error_kind          TEXT,                          -- why a failed run failed
    model_provider      TEXT    NOT NULL,              -- the model it is pinned to: provider
    model_id            TEXT    NOT NULL,              -- the model it is pinned to: the provider's name for it
    model_reason        TEXT    NOT NULL,              -- why that one was chosen
    origin              TEXT    NOT NULL,              -- the door it came through
    cause               TEXT    NOT NULL,              -- JSON: why it exists
    principal_kind      TEXT    NOT NULL,              -- who submitted it: the kind of actor
    principal_id        TEXT    NOT NULL,              -- who submitted it: the actor's id within its kind
    principal_name      TEXT    NOT NULL,              -- who submitted it: as people read it
    parent_run_id       TEXT,                          -- the run whose tool call this is
    idempotency_key     TEXT,                          -- the submitter's name for this submit
    config_revision     TEXT,                          -- the files' state that it was submitted under
    caller_credentials  INTEGER NOT NULL,              -- 1: provider keys came with the call and live in memory only
    max_steps           INTEGER NOT NULL,              -- limit of turns
    timeout_ms          INTEGER NOT NULL,              -- limit from the first start, time parked not counted
    epoch               INTEGER NOT NULL,              -- fencing number: every executor write has to name it
    owner               TEXT,                          -- the incarnation that executes it, while running
    attempt             INTEGER NOT NULL,              -- n-th try by a worker; 0 before the first claim
    keep_attempt        INTEGER NOT NULL,              -- 1: handed back by a draining worker, so the next claim is the same attempt
    cancel_requested    INTEGER NOT NULL,              -- 1: somebody cancelled it while it was running
    turns               INTEGER NOT NULL,              -- rounds of the loop so far
    steps               INTEGER NOT NULL,              -- rows in `steps`
    input_tokens        INTEGER NOT NULL,              -- consumed so far: tokens sent
    cached_input_tokens INTEGER NOT NULL,              -- of those, the ones that the provider had cached
    output_tokens       INTEGER NOT NULL,              -- consumed so far: tokens received
    reasoning_tokens    INTEGER NOT NULL,              -- of those, the ones spent on reasoning
    cost_microusd       INTEGER NOT NULL,              -- consumed so far: millionths of a US dollar
    event_seq           INTEGER NOT NULL,              -- seq of the last stored event
    waited_ms           INTEGER NOT NULL,              -- time spent parked; moves the deadline
    parked_at           INTEGER,                       -- since when it is parked
    created_at          INTEGER NOT NULL,              -- when it was submitted
    started_at          INTEGER,                       -- when it was first claimed
    ended_at            INTEGER                        -- when it reached a terminal status
) STRICT;

CREATE INDEX runs_queued ON runs (created_at, id) WHERE status = 'queued';
CREATE INDEX runs_running ON runs (owner) WHERE status = 'running';
CREATE INDEX runs_by_time ON runs (created_at, id);
CREATE INDEX runs_by_agent ON runs (agent_id, created_at, id);
CREATE UNIQUE INDEX runs_by_key ON runs (principal_kind, principal_id, agent_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE run_texts (
    run_id       TEXT PRIMARY KEY REFERENCES runs (id), -- the run
    input        TEXT NOT NULL,                         -- JSON: what it was given
    output       TEXT,                                  -- JSON: what a completed run returned
    error        TEXT,                                  -- what a failed run says
    pinned_tools TEXT                                   -- the tool catalogue it was started with, as the engine wrote it
) STRICT;

-- The journal. A row is inserted before its call leaves and ended when the call's outcome is known.
CREATE TABLE steps (
    run_id              TEXT    NOT NULL REFERENCES runs (id), -- the run
    seq                 INTEGER NOT NULL,              -- position in the run, from 1
    try                 INTEGER NOT NULL,              -- n-th time that this very call was made, from 1
    turn                INTEGER NOT NULL,              -- round of the loop, from 1
    epoch               INTEGER NOT NULL,              -- the epoch it was begun under
    kind                TEXT    NOT NULL,              -- model, tool or wait
    status              TEXT    NOT NULL,              -- started is the intent
    name                TEXT    NOT NULL,              -- the tool, or provider/model
    effect              TEXT,                          -- of a tool: read, write or destructive
    idempotent          INTEGER,                       -- of a tool: calling it twice is calling it once
    open_world          INTEGER,                       -- of a tool: it reaches beyond its server's data
    trusted             INTEGER,                       -- of a tool: a trusted source said so
    idempotency_key     TEXT,                          -- sent along with the call
    call_id             TEXT,                          -- the provider's id of the tool call
    waiting_for         TEXT,                          -- what it waits for, while it does
    answer              TEXT,                          -- JSON: how a person settled it after it was in doubt
    truncated           INTEGER NOT NULL,              -- 1: the model was shown only a part of the result
    error               TEXT,                          -- what went wrong
    input_tokens        INTEGER,                       -- of a model call: tokens sent
    cached_input_tokens INTEGER,                       -- of a model call: tokens sent that were cached
    output_tokens       INTEGER,                       -- of a model call: tokens received
    reasoning_tokens    INTEGER,                       -- of a model call: tokens spent on reasoning
    cost_microusd       INTEGER,                       -- of a model call: millionths of a US dollar
    started_at          INTEGER NOT NULL,              -- when the intent was committed
    ended_at            INTEGER,                       -- when the outcome was committed
    PRIMARY KEY (run_id, seq, try)
) STRICT, WITHOUT ROWID;

-- The long texts of a step, where it has any.
CREATE TABLE step_texts (
    run_id         TEXT    NOT NULL,                   -- the step's run
    seq            INTEGER NOT NULL,                   -- the step's position
    try            INTEGER NOT NULL,                   -- the step's try
    arguments      TEXT,                               -- JSON: what the call was made with
    result         TEXT,                               -- JSON: what came back, whole
    shown          TEXT,                               -- what the model is shown, where that differs from the result
    native_dialect TEXT,                               -- the wire dialect that made `native`
    native         TEXT,                               -- the provider's own content blocks, byte for byte
    PRIMARY KEY (run_id, seq, try),
    FOREIGN KEY (run_id, seq, try) REFERENCES steps (run_id, seq, try)
) STRICT;

CREATE TABLE events (
    run_id TEXT    NOT NULL REFERENCES runs (id),      -- the run
    seq    INTEGER NOT NULL,                           -- position in the run, from 1; goes on over epochs
    epoch  INTEGER NOT NULL,                           -- the run's epoch when it happened
    type   TEXT    NOT NULL,                           -- `run.started` and so on
    at     INTEGER NOT NULL,                           -- when
    data   TEXT    NOT NULL,                           -- JSON: what a follower needs beside the type
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;

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
    environment     TEXT,                              -- where, by name
    outcome         TEXT    NOT NULL,                  -- started, done, failed or denied
    reason          TEXT,                              -- with failed and denied: the error's kind and message
    request_id      TEXT    NOT NULL,                  -- finds the request's lines in the log
    config_revision TEXT,                              -- the files' state that the act was done under
    details         TEXT                               -- JSON: small structured facts; never arguments or results
) STRICT;
