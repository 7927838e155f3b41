-- What is found by something else than its key has a column of its own; all else is in the record.
CREATE TABLE IF NOT EXISTS session (
    id TEXT PRIMARY KEY,
    record TEXT NOT NULL, -- the SessionRecord, as JSON
    deadline INTEGER,     -- when to look at it, in milliseconds since the Unix epoch
    node1 TEXT,           -- where its participants are attached
    node2 TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS session_deadline ON session (deadline);
CREATE INDEX IF NOT EXISTS session_node1 ON session (node1);
CREATE INDEX IF NOT EXISTS session_node2 ON session (node2);

CREATE TABLE IF NOT EXISTS membership (
    user TEXT NOT NULL,
    session TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (user, session)
) STRICT;

-- AUTOINCREMENT: an epoch is never given out again, also when its row is gone.
CREATE TABLE IF NOT EXISTS connection (
    epoch INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    node TEXT NOT NULL,
    accepted INTEGER NOT NULL, -- Accepted::earliest, in milliseconds since the Unix epoch
    previous TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS lease (
    node TEXT PRIMARY KEY,
    until INTEGER NOT NULL,
    connections INTEGER NOT NULL, -- how much the node has
    sessions INTEGER NOT NULL
) STRICT;

-- Tokens of the user that were issued before this are refused.
CREATE TABLE IF NOT EXISTS revocation (
    user TEXT PRIMARY KEY,
    issued_before INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
