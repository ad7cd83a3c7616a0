-- Times are microseconds since 1970-01-01 UTC.

CREATE TABLE service (
    id         INTEGER PRIMARY KEY,
    experiment TEXT NOT NULL,
    role       TEXT NOT NULL,
    account    TEXT NOT NULL,
    principal  TEXT NOT NULL,
    UNIQUE (experiment, role, account, principal)
) STRICT;

-- Long tokens: accessors only. The token itself is nowhere but in the credds.
CREATE TABLE login (
    service_id INTEGER NOT NULL REFERENCES service (id) ON DELETE CASCADE,
    accessor   TEXT NOT NULL,
    issued     INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    PRIMARY KEY (service_id, accessor)
) STRICT;

-- The node token in hand; the token itself lies in a file beside this database.
CREATE TABLE node_token (
    service_id      INTEGER PRIMARY KEY REFERENCES service (id) ON DELETE CASCADE,
    accessor        TEXT NOT NULL,
    parent_accessor TEXT NOT NULL,
    issued          INTEGER NOT NULL,
    expires         INTEGER NOT NULL
) STRICT;

CREATE TABLE store (
    service_id      INTEGER NOT NULL REFERENCES service (id) ON DELETE CASCADE,
    credd           TEXT NOT NULL,
    credential_name TEXT NOT NULL,
    accessor        TEXT NOT NULL,
    stored_at       INTEGER NOT NULL,
    expires         INTEGER NOT NULL,
    top_time        INTEGER,
    htcondor_user   TEXT NOT NULL,
    PRIMARY KEY (service_id, credd, credential_name)
) STRICT;

CREATE TABLE push (
    service_id INTEGER NOT NULL REFERENCES service (id) ON DELETE CASCADE,
    node       TEXT NOT NULL,
    path       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    accessor   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    pushed_at  INTEGER NOT NULL,
    expires    INTEGER,
    PRIMARY KEY (service_id, node, path)
) STRICT;

CREATE TABLE edge (
    id                   TEXT PRIMARY KEY,
    last_attempt         INTEGER NOT NULL,
    last_success         INTEGER,
    consecutive_failures INTEGER NOT NULL,
    last_error_kind      TEXT,
    last_error_text      TEXT,
    next_try             INTEGER
) STRICT;
