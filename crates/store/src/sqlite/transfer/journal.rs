//! The triggers on a folder that is copied: they note what changes, and refuse changes while it is frozen.

use crate::transfer::{FREEZE, Kind, SOURCE_MARK, STAYS, SourceMark, SourceState, TransferError, encode};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::fmt::Write as _;

/// Each record is noted once; the stamp is another one at every change.
///
/// The freeze is a time (Unix seconds) by this machine's clock, the same one that every process on the
/// folder has.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS migration_journal (
    kind INTEGER NOT NULL,
    key BLOB NOT NULL,
    stamp INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS migration_freeze (until INTEGER NOT NULL);
";

/// A table, what kind of record its rows belong to, and which one (`ROW` is `NEW` or `OLD`).
const NOTED: [(&str, Kind, &str); 9] = [
    ("meta", Kind::Meta, "CAST(ROW.name AS BLOB)"),
    ("clients", Kind::Clients, "CAST(ROW.id AS BLOB)"),
    ("keys", Kind::Keys, "CAST(ROW.name AS BLOB)"),
    ("users", Kind::Users, "ROW.id"),
    ("user_secrets", Kind::Users, "(SELECT id FROM users WHERE n = ROW.user)"),
    ("sessions", Kind::Sessions, "ROW.id"),
    ("timeline", Kind::Sessions, "(SELECT id FROM sessions WHERE n = ROW.session)"),
    ("challenges", Kind::Challenges, "ROW.id"),
    ("events", Kind::Events, "CAST(CAST(ROW.seq AS TEXT) AS BLOB)"),
];

/// Makes what the mark stands for, in the open transaction.
pub(super) fn put(conn: &Connection, mark: &SourceMark) -> Result<(), TransferError> {
    conn.execute_batch(TABLES)?;
    conn.execute(
        "INSERT INTO migration_freeze (until) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM migration_freeze)",
        [],
    )?;
    let complete: bool = conn
        .prepare(
            "SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = 'migration_note_events_delete'",
        )?
        .exists([])?;
    if !complete {
        conn.execute_batch(&triggers())?;
    }
    let until = match mark.state {
        SourceState::Noting => "0",
        SourceState::Frozen => "unixepoch() + ?1",
        SourceState::Moved => {
            if conn.prepare("SELECT 1 FROM migration_journal LIMIT 1")?.exists([])? {
                return Err(TransferError::Thawed);
            }
            "9223372036854775807"
        }
    };
    let seconds = i64::try_from(FREEZE.as_secs()).unwrap_or(i64::MAX);
    let sql = format!("UPDATE migration_freeze SET until = {until}");
    if mark.state == SourceState::Frozen {
        conn.execute(&sql, [seconds])?;
    } else {
        conn.execute(&sql, [])?;
    }
    const MARK: &str = "INSERT INTO meta (name, value) VALUES (?1, ?2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    conn.execute(MARK, params![SOURCE_MARK, encode(mark)])?;
    Ok(())
}

/// Removes all of it, in the open transaction.
pub(super) fn remove(conn: &Connection) -> Result<(), TransferError> {
    let names: Vec<String> = conn
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'migration\\_%' ESCAPE '\\'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in names {
        conn.execute_batch(&format!("DROP TRIGGER \"{name}\""))?;
    }
    conn.execute_batch("DROP TABLE IF EXISTS migration_journal; DROP TABLE IF EXISTS migration_freeze;")?;
    conn.execute("DELETE FROM meta WHERE name = ?1", [SOURCE_MARK])?;
    Ok(())
}

/// A mark of that name.
pub(super) fn read_mark(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>, TransferError> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?)
}

fn triggers() -> String {
    let stays = STAYS.map(|name| format!("'{name}'")).join(", ");
    let mut sql = String::new();
    for (table, kind, key) in NOTED {
        for (operation, row) in [("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")] {
            let of_the_store = format!("{row}.name NOT IN ({stays})");
            let concerned = if kind == Kind::Meta { &*of_the_store } else { "1" };
            let (code, key) = (kind.code(), key.replace("ROW", row));
            // First deleted, then inserted: an upsert would follow the conflict clause of the statement that
            // fires the trigger, which may be to ignore.
            let _ = writeln!(
                sql,
                "CREATE TRIGGER IF NOT EXISTS migration_note_{table}_{operation} AFTER {operation} ON {table}
                WHEN {concerned} BEGIN
                    DELETE FROM migration_journal WHERE kind = {code} AND key = {key};
                    INSERT INTO migration_journal (kind, key, stamp)
                        SELECT {code}, k, random() FROM (SELECT {key} AS k) WHERE k IS NOT NULL;
                END;
                CREATE TRIGGER IF NOT EXISTS migration_freeze_{table}_{operation} BEFORE {operation} ON {table}
                WHEN {concerned} AND (SELECT until FROM migration_freeze) > unixepoch() BEGIN
                    SELECT RAISE(ABORT, 'the store is being moved');
                END;"
            );
        }
    }
    sql
}
