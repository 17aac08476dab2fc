//! The tables, and how older files become today's.
//!
//! Times are microseconds since the epoch. Of an event the id is its time, shifted left by
//! [`AT_SHIFT`], and a number that keeps events of one microsecond apart: so rows lie in the order
//! of time, every index ends with it, and a span of time is a span of ids.

/// How far the time of an event is shifted in its id: room for a thousand a microsecond, until 2255.
pub(in crate::journal) const AT_SHIFT: u32 = 10;

/// Today's version of the file.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// Step n makes version n+1 of version n. Steps are never edited: files that they made exist.
pub(super) const STEPS: [&str; 4] = [
    "
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('event_rows', 0);

-- Names out of the configuration: rows hold numbers.
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE blocks (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    key_hash BLOB NOT NULL,
    key_kind TEXT NOT NULL,
    sealed BLOB,
    masked TEXT NOT NULL,
    search INTEGER NOT NULL,
    part_a INTEGER,
    part_b INTEGER,
    reason INTEGER NOT NULL,
    route TEXT,
    policy TEXT,
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    level INTEGER NOT NULL,
    forget_at INTEGER NOT NULL,
    made_by TEXT,
    spec BLOB,
    -- When it is over: `until`, or earlier if it was ended.
    ends_at INTEGER NOT NULL,
    ended_how INTEGER NOT NULL DEFAULT 0,
    ended_by TEXT
);
CREATE INDEX blocks_key ON blocks (key_hash);
CREATE INDEX blocks_end ON blocks (ends_at);
CREATE INDEX blocks_reason ON blocks (reason, ends_at);
CREATE INDEX blocks_forget ON blocks (forget_at);
CREATE INDEX blocks_search ON blocks (search);
CREATE INDEX blocks_part_a ON blocks (part_a) WHERE part_a IS NOT NULL;
CREATE INDEX blocks_part_b ON blocks (part_b) WHERE part_b IS NOT NULL;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    times INTEGER NOT NULL,
    route INTEGER,
    policy INTEGER,
    key_kind INTEGER,
    win INTEGER,
    search INTEGER,
    part_a INTEGER,
    part_b INTEGER,
    sealed BLOB,
    masked TEXT,
    client TEXT,
    user_agent TEXT,
    trace_id TEXT,
    detail TEXT
);
CREATE INDEX events_kind ON events (kind);
CREATE INDEX events_route ON events (route, kind) WHERE route IS NOT NULL;
CREATE INDEX events_policy ON events (policy, kind) WHERE policy IS NOT NULL;
CREATE INDEX events_search ON events (search) WHERE search IS NOT NULL;
CREATE INDEX events_part_a ON events (part_a) WHERE part_a IS NOT NULL;
CREATE INDEX events_part_b ON events (part_b) WHERE part_b IS NOT NULL;

-- Counts by hour since the epoch; 0 for no route and no policy.
CREATE TABLE event_hours (
    hour INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    route INTEGER NOT NULL,
    policy INTEGER NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (hour, kind, route, policy)
) WITHOUT ROWID;
",
    "
-- The gateway that an event happened in, if that was another one.
ALTER TABLE events ADD COLUMN node INTEGER;
",
    "
-- Operators look attackers up by their address.
CREATE INDEX events_client ON events (client) WHERE client IS NOT NULL;
",
    "
-- Small records that nobody is answered about before they are here: one-time codes.
CREATE TABLE codes (
    slot BLOB PRIMARY KEY,
    until INTEGER NOT NULL,
    packed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX codes_until ON codes (until);
",
];

/// Ends all blocks that are in force or remembered, for they cannot be matched any more.
pub(super) const END_ALL: &str = "
UPDATE blocks SET
    ended_how = CASE WHEN ends_at > ?1 THEN 3 ELSE ended_how END,
    ends_at = min(ends_at, ?1),
    forget_at = ?1
WHERE forget_at > ?1 OR ends_at > ?1";
