-- Secrets: values that are sealed under the environment's data key, which is itself wrapped by the home's key (secrets/root.json).

CREATE TABLE data_keys (
    generation INTEGER PRIMARY KEY,                    -- from 1; every record says which generation it needs
    wrapped    BLOB    NOT NULL,                       -- the key itself, sealed under the home's key
    kek_id     TEXT    NOT NULL,                       -- names the home's key that wraps it, as root.json does
    state      TEXT    NOT NULL                        -- active: seals and opens; retiring: only opens
               CHECK (state IN ('active', 'retiring')),
    sealed     INTEGER NOT NULL,                       -- how many values were sealed under it; 2^32 is the end
    created_at INTEGER NOT NULL                        -- when it was made
) STRICT;

CREATE UNIQUE INDEX data_keys_active ON data_keys (state) WHERE state = 'active';

CREATE TABLE secrets (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,      -- part of the place that the record is bound to; never reused
    name       TEXT    NOT NULL UNIQUE,                -- as `{{ secret.NAME }}` refers to it
    version    INTEGER NOT NULL,                       -- from 1, one more with every change; bound to the record
    generation INTEGER NOT NULL                        -- the data key that the record is sealed under
               REFERENCES data_keys (generation),
    record     BLOB    NOT NULL,                       -- the value, sealed: src/secrets/envelope.rs has the format
    created_at INTEGER NOT NULL,                       -- when it was first set
    updated_at INTEGER NOT NULL                        -- when it was last set
) STRICT;
