//! The tables, as numbered migrations.
//!
//! To change the schema, append a migration; never edit one that was released. Each runs once, in a
//! transaction of its own, and `user_version` counts them.

use rusqlite::{Connection, TransactionBehavior};

/// Tells our files from other SQLite databases ("RSL1").
pub(super) const APPLICATION_ID: i32 = 0x5253_4c31;

/// The schema this version writes.
pub(super) const VERSION: u32 = 3;

pub(super) const MIGRATIONS: [&str; VERSION as usize] = [FIRST, BEFORE, DELETED];

/// Times are milliseconds since the Unix epoch.
///
/// Sessions are addressed by `n` inside the file: the timeline and every index then hold a small integer
/// where they would hold 16 bytes. What changes at every renewal is in no index; `sweep_day`, the day
/// after which the row is outdated, stands in for the deadlines and changes at most once a day.
const FIRST: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- A deleted user leaves its numbers for the timelines of its sessions: all else is NULL.
CREATE TABLE users (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    version INTEGER,
    auth_epoch INTEGER,
    disabled INTEGER,
    revision INTEGER,
    username_key TEXT UNIQUE,
    username TEXT,
    created_at INTEGER,
    updated_at INTEGER,
    profile TEXT
);
CREATE INDEX users_deleted ON users (n) WHERE version IS NULL;

CREATE TABLE user_secrets (
    user INTEGER PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    password TEXT,
    recovery_codes BLOB NOT NULL
);

-- Client ids, policy names, scopes and user agents of sessions. Numbers are never used again, so that
-- a cached one cannot come to mean another text; a text leaves with the last session that uses it.
CREATE TABLE texts (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL UNIQUE,
    uses INTEGER NOT NULL
);

CREATE TABLE sessions (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user INTEGER NOT NULL REFERENCES users,
    client INTEGER NOT NULL,
    policy INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    user_agent INTEGER,
    ended INTEGER NOT NULL,
    sweep_day INTEGER NOT NULL,
    version INTEGER NOT NULL,
    used INTEGER NOT NULL,
    used_nonce BLOB NOT NULL,
    branch INTEGER NOT NULL,
    window_at INTEGER NOT NULL,
    window_from INTEGER NOT NULL,
    prev_window_at INTEGER NOT NULL,
    prev_window_from INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    idle_expires_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    acr INTEGER NOT NULL,
    amr INTEGER NOT NULL,
    authenticated_at INTEGER NOT NULL,
    cookie_generation INTEGER,
    cookie_raised_at INTEGER,
    cookie_confirmed INTEGER,
    cookie_acr INTEGER,
    cookie_amr INTEGER,
    cookie_authenticated_at INTEGER,
    binding BLOB,
    ip BLOB,
    ended_at INTEGER,
    end_reason TEXT
);
CREATE INDEX sessions_by_user ON sessions (user, ended, id);
CREATE INDEX sessions_by_client ON sessions (client, ended);
CREATE INDEX sessions_by_sweep_day ON sessions (sweep_day);

CREATE TABLE timeline (
    session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    i INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT,
    ip BLOB,
    PRIMARY KEY (session, i)
) WITHOUT ROWID;

CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    name TEXT NOT NULL,
    secret_hash BLOB,
    policy TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    introspect INTEGER NOT NULL,
    rights TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE challenges (
    id BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    user_id BLOB NOT NULL,
    client_id TEXT,
    password_at INTEGER,
    session_id BLOB,
    phone_number TEXT NOT NULL,
    auth_epoch INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    code_hash BLOB NOT NULL,
    tries_left INTEGER NOT NULL,
    sends INTEGER NOT NULL,
    sent_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX challenges_by_expires_at ON challenges (expires_at);

CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    ring_id INTEGER,
    algorithm TEXT,
    kid TEXT,
    created_at INTEGER NOT NULL,
    active_from INTEGER NOT NULL,
    retired_at INTEGER,
    unpublished_at INTEGER,
    withdrawn_at INTEGER,
    sealed BLOB NOT NULL
) WITHOUT ROWID;

-- AUTOINCREMENT: a number is never given twice, not even after the newest event was swept.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    until INTEGER NOT NULL,
    kind TEXT NOT NULL,
    sid BLOB,
    sub BLOB,
    client_id TEXT,
    rev INTEGER,
    reason TEXT,
    withdrawn TEXT
);
CREATE INDEX events_by_until ON events (until);
";

/// Tokens of a changed client are void if they were issued before this time (Unix seconds). Of events that
/// were logged without it all that may still live are.
const BEFORE: &str = "
ALTER TABLE events ADD COLUMN before INTEGER;
UPDATE events SET before = until / 1000 WHERE kind = 'client-changed';
";

/// A deleted user keeps `revision` and `auth_epoch`, and in `updated_at` the time of the deletion, until no
/// event names it any more.
const DELETED: &str = "
CREATE INDEX events_by_sub ON events (sub) WHERE sub IS NOT NULL;
";

/// The number of migrations that the file has seen.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Runs the migrations that are missing, each in a transaction.
pub(super) fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    loop {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read inside the transaction: another process may have been faster.
        let done = version(&tx)?;
        let Some(migration) = usize::try_from(done).ok().and_then(|done| MIGRATIONS.get(done)) else {
            return Ok(());
        };
        tx.execute_batch(migration)?;
        if done == 0 {
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        tx.pragma_update(None, "user_version", done + 1)?;
        tx.commit()?;
        tracing::info!(schema = done + 1, "the database has a new schema");
    }
}
