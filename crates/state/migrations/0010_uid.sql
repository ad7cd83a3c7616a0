-- Which UID an account has on the nodes, by whoever said so first, and who has said otherwise since.
CREATE TABLE uid (
    account      TEXT PRIMARY KEY,
    uid          INTEGER NOT NULL,
    source       TEXT NOT NULL,
    since        INTEGER NOT NULL,
    confirmed    INTEGER NOT NULL,
    other_uid    INTEGER,
    other_source TEXT,
    other_at     INTEGER
) STRICT;
