//! The triggers on a database that is copied: they note what changes, and refuse changes while it is frozen.

use super::Done;
use crate::postgres::fail::Result;
use crate::postgres::pool::Client;
use crate::postgres::rows::Columns;
use crate::transfer::{FREEZE, Kind, SOURCE_MARK, STAYS, SourceMark, SourceState, TransferError, encode};
use std::fmt::Write as _;

/// A table, what kind of record its rows belong to, and which one.
const NOTED: [(&str, Kind, &str); 8] = [
    ("users", Kind::Users, "uuid_send(id)"),
    ("sessions", Kind::Sessions, "uuid_send(id)"),
    ("timeline", Kind::Sessions, "uuid_send(session)"),
    ("challenges", Kind::Challenges, "id"),
    ("clients", Kind::Clients, "convert_to(id, 'UTF8')"),
    ("keys", Kind::Keys, "convert_to(name, 'UTF8')"),
    ("meta", Kind::Meta, "convert_to(name, 'UTF8')"),
    ("events", Kind::Events, "convert_to(seq::text, 'UTF8')"),
];

/// Waits for whoever writes, in the order in which transactions lock, and keeps all others from writing until
/// the commit: so what was under way when a trigger or the freeze came is committed and seen.
const LOCK: &str = "SET LOCAL lock_timeout = '3s';
    LOCK TABLE users, sessions, timeline, challenges, clients, keys, meta, log_head, events
    IN SHARE ROW EXCLUSIVE MODE";

/// Makes what the mark stands for, in the open transaction.
pub(super) async fn put(client: &Client, mark: &SourceMark) -> Done<()> {
    client.batch(LOCK).await?;
    let there = client.query_opt("SELECT to_regclass('migration_journal')::text", &[]).await?;
    let there: Option<String> = there.map_or(Ok(None), |row| Columns::of(&row).take())?;
    if there.is_none() {
        client.batch(&triggers(&schema(client).await?)).await?;
    }
    match mark.state {
        SourceState::Noting => client.batch("UPDATE migration_freeze SET until = '-infinity'").await?,
        SourceState::Frozen => {
            let seconds = FREEZE.as_secs();
            let until = format!(
                "UPDATE migration_freeze SET until = clock_timestamp() + interval '{seconds} seconds'"
            );
            client.batch(&until).await?;
        }
        SourceState::Moved => {
            if !client.query("SELECT 1 FROM migration_journal LIMIT 1", &[]).await?.is_empty() {
                return Err(TransferError::Thawed.into());
            }
            client.batch("UPDATE migration_freeze SET until = 'infinity'").await?;
        }
    }
    put_mark(client, SOURCE_MARK, encode(mark)).await?;
    Ok(())
}

/// Removes all of it, in the open transaction.
pub(super) async fn remove(client: &Client) -> Done<()> {
    client.batch(LOCK).await?;
    let mut sql = String::new();
    for (table, _, _) in NOTED {
        for name in ["note_insert", "note_update", "note_delete", "freeze", "freeze_delete"] {
            let _ = writeln!(sql, "DROP TRIGGER IF EXISTS migration_{name} ON {table};");
        }
        let _ = writeln!(sql, "DROP FUNCTION IF EXISTS migration_note_{table}();");
    }
    sql += "DROP FUNCTION IF EXISTS migration_freeze();
        DROP TABLE IF EXISTS migration_journal; DROP TABLE IF EXISTS migration_freeze;";
    client.batch(&sql).await?;
    const FORGET: &str = "DELETE FROM meta WHERE name = $1";
    client.execute(FORGET, &[&SOURCE_MARK]).await?;
    Ok(())
}

/// Sets a mark, or any other value.
pub(super) async fn put_mark(client: &Client, name: &str, value: Vec<u8>) -> Result<()> {
    const PUT: &str = "INSERT INTO meta (name, value) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    client.execute(PUT, &[&name, &value]).await.map(drop)
}

/// A mark, or any other value.
pub(super) async fn read_mark(client: &Client, name: &str) -> Result<Option<Vec<u8>>> {
    let row = client.query_opt("SELECT value FROM meta WHERE name = $1", &[&name]).await?;
    row.map(|row| Columns::of(&row).take()).transpose()
}

/// The schema that the tables are in, quoted.
async fn schema(client: &Client) -> Result<String> {
    let row = client.query_opt("SELECT quote_ident(current_schema())", &[]).await?;
    row.map_or(Ok("public".to_owned()), |row| Columns::of(&row).take())
}

/// Notes are only ever added, one for each row that a statement changed: two transactions that change the same
/// record do not wait for each other because of them.
///
/// The freeze is asked about row by row: a statement that finds nothing to write is not refused. Its time is
/// the server's, the same for all nodes.
fn triggers(schema: &str) -> String {
    let stays = STAYS.map(|name| format!("'{name}'")).join(", ");
    let mut sql = format!(
        "CREATE TABLE {schema}.migration_journal (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind smallint NOT NULL, key bytea NOT NULL);
        CREATE TABLE {schema}.migration_freeze (until timestamptz NOT NULL);
        INSERT INTO {schema}.migration_freeze VALUES ('-infinity');
        CREATE FUNCTION {schema}.migration_freeze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT until FROM {schema}.migration_freeze) > clock_timestamp() THEN
                RAISE EXCEPTION
                    'the store is being moved to another (reseal migrate), and takes no writes until that is done'
                    USING ERRCODE = 'RS001';
            END IF;
            RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
        END $$;"
    );
    for (table, kind, key) in NOTED {
        let code = kind.code();
        let concerned =
            if kind == Kind::Meta { format!("WHERE name NOT IN ({stays})") } else { String::new() };
        let _ = writeln!(
            sql,
            "CREATE FUNCTION {schema}.migration_note_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO {schema}.migration_journal (kind, key)
                    SELECT DISTINCT {code}, {key} FROM changed {concerned};
                RETURN NULL;
            END $$;"
        );
        for (operation, changed) in [("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")] {
            let _ = writeln!(
                sql,
                "CREATE TRIGGER migration_note_{operation} AFTER {operation} ON {schema}.{table}
                REFERENCING {changed} TABLE AS changed
                FOR EACH STATEMENT EXECUTE FUNCTION {schema}.migration_note_{table}();"
            );
        }
        let concerned = |row: &str| match kind {
            Kind::Meta => format!("WHEN ({row}.name NOT IN ({stays}))"),
            _ => String::new(),
        };
        // A condition may name the old row or the new one, by what the trigger is for.
        let _ = writeln!(
            sql,
            "CREATE TRIGGER migration_freeze BEFORE INSERT OR UPDATE ON {schema}.{table}
            FOR EACH ROW {} EXECUTE FUNCTION {schema}.migration_freeze();
            CREATE TRIGGER migration_freeze_delete BEFORE DELETE ON {schema}.{table}
            FOR EACH ROW {} EXECUTE FUNCTION {schema}.migration_freeze();",
            concerned("NEW"),
            concerned("OLD"),
        );
    }
    sql
}
