-- The last tries of each edge: what `mtk explain` tells. Tries that ended alike one after another are one row.
CREATE TABLE attempt (
    id      INTEGER PRIMARY KEY,
    edge    TEXT NOT NULL,
    outcome TEXT NOT NULL,
    since   INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    times   INTEGER NOT NULL,
    reason  TEXT,
    stage   TEXT,
    kind    TEXT,
    text    TEXT
) STRICT;
CREATE INDEX attempt_edge ON attempt (edge, id);

-- What is known to be down, who said so, and until when it is nobody's alarm.
CREATE TABLE silence (
    id       INTEGER PRIMARY KEY,
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    why      TEXT NOT NULL,
    who      TEXT NOT NULL,
    since    INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    ended    INTEGER,
    ended_by TEXT
) STRICT;
