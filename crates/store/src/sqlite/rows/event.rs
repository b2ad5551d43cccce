//! The event log. Numbers grow in commit order, because one transaction writes at a time.

use super::{Columns, session::sql_limit};
use crate::StoreError;
use crate::sqlite::fail::{Fail, Result};
use reseal_core::event::{Event, EventKind, LoggedEvent};
use reseal_core::{SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub(in crate::sqlite) fn append(conn: &Connection, event: &Event) -> Result<()> {
    write(conn, None, event)
}

/// Writes an event of that number, unless it is there.
pub(in crate::sqlite) fn put(conn: &Connection, logged: &LoggedEvent) -> Result<()> {
    write(conn, Some(logged.seq.cast_signed()), &logged.event)
}

/// The event of that number.
pub(in crate::sqlite) fn by_seq(conn: &Connection, seq: u64) -> Result<Option<LoggedEvent>> {
    const BY_SEQ: &str = "SELECT seq, until, kind, sid, sub, client_id, before, rev, reason, withdrawn FROM events WHERE seq = ?1";
    let mut statement = conn.prepare_cached(BY_SEQ)?;
    let mut rows = statement.query([seq.cast_signed()])?;
    rows.next()?.map(read).transpose()
}

fn write(conn: &Connection, seq: Option<i64>, event: &Event) -> Result<()> {
    let kind = event.kind.type_name();
    let (mut sid, mut sub, mut client, mut before, mut rev, mut reason, mut withdrawn) =
        (None, None, None, None, None, None, None);
    match &event.kind {
        EventKind::SessionEnded { sid: id, reason: why } => {
            (sid, reason) = (Some(id.as_bytes()), Some(why.as_str()));
        }
        EventKind::ClaimsChanged { sub: id, rev: least } => {
            (sub, rev) = (Some(id.as_bytes()), Some(least.cast_signed()));
        }
        EventKind::ClientChanged { client_id, before: at } => {
            (client, before) = (Some(client_id.as_str()), Some(*at));
        }
        EventKind::KeysChanged { withdrawn: kids } => {
            withdrawn = Some(serde_json::to_string(kids).expect("a list of texts is JSON"));
        }
        _ => {
            return Err(Fail::Item(StoreError::Internal(format!(
                "the store does not know events of type {kind}"
            ))));
        }
    }
    const APPEND: &str =
        "INSERT INTO events (until, kind, sid, sub, client_id, before, rev, reason, withdrawn, seq)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (seq) DO NOTHING";
    conn.prepare_cached(APPEND)?.execute(params![
        event.until.millis(),
        kind,
        sid,
        sub,
        client,
        before,
        rev,
        reason,
        withdrawn,
        seq
    ])?;
    Ok(())
}

pub(in crate::sqlite) fn after(conn: &Connection, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>> {
    const AFTER: &str =
        "SELECT seq, until, kind, sid, sub, client_id, before, rev, reason, withdrawn FROM events
        WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = conn.prepare_cached(AFTER)?;
    let mut rows = statement.query(params![i64::try_from(seq).unwrap_or(i64::MAX), sql_limit(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The number of the newest event ever logged.
pub(in crate::sqlite) fn last(conn: &Connection) -> Result<u64> {
    let mut statement = conn.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?;
    let seq: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(seq.unwrap_or(0).cast_unsigned())
}

/// Deletes those whose time is over at `now`.
pub(in crate::sqlite) fn sweep(conn: &Connection, now: Timestamp, limit: usize) -> Result<usize> {
    const SWEEP: &str = "DELETE FROM events WHERE seq IN (
        SELECT seq FROM events WHERE until <= ?1 ORDER BY until LIMIT ?2)";
    Ok(conn.prepare_cached(SWEEP)?.execute(params![now.millis(), sql_limit(limit)])?)
}

fn read(row: &Row<'_>) -> Result<LoggedEvent> {
    let mut c = Columns::of(row);
    let (seq, until) = (c.unsigned()?, c.time()?);
    let kind: Box<str> = c.take()?;
    let (sid, sub) = (c.take::<Option<[u8; 16]>>()?, c.take::<Option<[u8; 16]>>()?);
    let (client, before) = (c.take::<Option<Box<str>>>()?, c.take::<Option<i64>>()?);
    let rev = c.take::<Option<i64>>()?;
    let (reason, withdrawn) = (c.end_reason()?, c.take::<Option<Box<str>>>()?);
    let broken = || Fail::corrupt(format!("event {seq} ({kind})"));
    let kind = match &*kind {
        "session-ended" => EventKind::SessionEnded {
            sid: SessionId::from_bytes(sid.ok_or_else(broken)?),
            reason: reason.ok_or_else(broken)?,
        },
        "claims-changed" => EventKind::ClaimsChanged {
            sub: reseal_core::UserId::from_bytes(sub.ok_or_else(broken)?),
            rev: rev.ok_or_else(broken)?.cast_unsigned(),
        },
        "client-changed" => EventKind::ClientChanged {
            client_id: client.ok_or_else(broken)?.parse().map_err(|_| broken())?,
            before: before.ok_or_else(broken)?,
        },
        "keys-changed" => EventKind::KeysChanged {
            withdrawn: serde_json::from_str(&withdrawn.ok_or_else(broken)?).map_err(|_| broken())?,
        },
        _ => return Err(broken()),
    };
    Ok(LoggedEvent { seq, event: Event { kind, until } })
}
