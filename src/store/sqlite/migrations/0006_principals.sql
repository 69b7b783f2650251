-- Who may act, beside the owner of the home: users with their roles, and API keys.

CREATE TABLE users (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,      -- a user's number, never given twice
    name         TEXT    NOT NULL,                       -- what people call it; unique among those that are not deleted
    display_name TEXT,                                   -- a name for people
    state        TEXT    NOT NULL,                       -- active or suspended: whether its keys are taken
    created_at   INTEGER NOT NULL,                       -- when it was created
    updated_at   INTEGER NOT NULL,                       -- when it or its roles last changed
    deleted_at   INTEGER                                 -- when it was deleted; the row is kept for the audit
) STRICT;

CREATE UNIQUE INDEX users_by_name ON users (name) WHERE deleted_at IS NULL;

CREATE TABLE roles (
    user_id     INTEGER NOT NULL REFERENCES users (id),  -- whose role it is
    environment TEXT    NOT NULL,                        -- where, by name; `*` for everywhere that isn't named
    role        TEXT    NOT NULL,                        -- viewer, developer, operator or admin
    PRIMARY KEY (user_id, environment)
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id           TEXT    PRIMARY KEY,                    -- the part of the key that may be shown
    name         TEXT    NOT NULL,                       -- what people call it; several keys may have one name
    user_id      INTEGER REFERENCES users (id),          -- whose it is; null for the owner of the home
    hash         BLOB    NOT NULL,                       -- SHA-256 of its secret, which is kept nowhere
    role         TEXT,                                   -- no more than this role; null for as much as its owner
    environments TEXT,                                   -- JSON: only in these; null for wherever its owner may
    scopes       TEXT,                                   -- JSON: only these; null for all of the role's
    sources      TEXT,                                   -- JSON: only from these networks; null for from anywhere
    created_at   INTEGER NOT NULL,                       -- when it was created
    expires_at   INTEGER NOT NULL,                       -- from when on it isn't taken any more
    last_used_at INTEGER,                                -- when it was last used, to the minute
    deleted_at   INTEGER,                                -- when it was deleted; the row is kept for the audit
    created_by   TEXT    NOT NULL                        -- JSON: the principal that created it
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_name ON api_keys (name, id) WHERE deleted_at IS NULL;
CREATE INDEX api_keys_by_user ON api_keys (user_id) WHERE deleted_at IS NULL;
