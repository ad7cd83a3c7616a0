-- Who agreed in a browser to a robot reading bearer tokens, and when: the latest one.
CREATE TABLE consent (
    service_id INTEGER PRIMARY KEY REFERENCES service (id) ON DELETE CASCADE,
    person     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    expires    INTEGER,
    granted    TEXT NOT NULL,
    missing    TEXT NOT NULL
) STRICT;
