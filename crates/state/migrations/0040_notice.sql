-- Who was told of what fails, and when: what they are reminded of, and what they are told of when it is over.
CREATE TABLE notice (
    subject  TEXT NOT NULL,
    outlet   TEXT NOT NULL,
    since    INTEGER NOT NULL,
    told_at  INTEGER,
    severity INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (subject, outlet)
) STRICT;
