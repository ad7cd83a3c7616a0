-- Which login a node took last, where it was asked what it accepts.
CREATE TABLE node (
    host   TEXT NOT NULL,
    port   INTEGER NOT NULL,
    method TEXT NOT NULL,
    since  INTEGER NOT NULL,
    PRIMARY KEY (host, port)
) STRICT;
