//! Timelines: a few lines per session, numbered from 0.

use super::{Columns, IpBytes};
use crate::sqlite::fail::{Fail, Result};
use reseal_core::timeline::TIMELINE_MAX;
use reseal_core::{SessionId, TimelineEntry, TimelineKind};
use rusqlite::{Connection, params};

/// Adds a line, unless the timeline is full and the line tells of no end. No session, no line.
pub(in crate::sqlite) fn append(conn: &Connection, entry: &TimelineEntry) -> Result<()> {
    const APPEND: &str = "INSERT INTO timeline (session, i, at, kind, reason, ip)
        SELECT n, i, ?2, ?3, ?4, ?5 FROM (
            SELECT n, coalesce((SELECT max(i) + 1 FROM timeline WHERE session = n), 0) AS i
            FROM sessions WHERE id = ?1)
        WHERE i < ?6 OR ?4 IS NOT NULL";
    conn.prepare_cached(APPEND)?.execute(params![
        entry.session_id.as_bytes(),
        entry.at.millis(),
        entry.kind.as_str(),
        entry.kind.reason().map(|r| r.as_str()),
        IpBytes::of(entry.ip),
        super::session::sql_limit(TIMELINE_MAX),
    ])?;
    Ok(())
}

/// Writes all lines of the session that lies there, in place of those it has.
pub(in crate::sqlite) fn replace(conn: &Connection, session_n: i64, lines: &[TimelineEntry]) -> Result<()> {
    conn.prepare_cached("DELETE FROM timeline WHERE session = ?1")?.execute([session_n])?;
    const WRITE: &str =
        "INSERT INTO timeline (session, i, at, kind, reason, ip) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut statement = conn.prepare_cached(WRITE)?;
    for (i, entry) in (0_i64..).zip(lines) {
        statement.execute(params![
            session_n,
            i,
            entry.at.millis(),
            entry.kind.as_str(),
            entry.kind.reason().map(|r| r.as_str()),
            IpBytes::of(entry.ip),
        ])?;
    }
    Ok(())
}

/// All lines, oldest first.
pub(in crate::sqlite) fn of(conn: &Connection, id: SessionId) -> Result<Vec<TimelineEntry>> {
    const OF: &str = "SELECT at, kind, reason, ip FROM timeline
        WHERE session = (SELECT n FROM sessions WHERE id = ?1) ORDER BY i";
    let mut statement = conn.prepare_cached(OF)?;
    let mut rows = statement.query([id.as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut c = Columns::of(row);
        let (at, kind) = (c.time()?, c.take::<Box<str>>()?);
        let kind = TimelineKind::from_parts(&kind, c.end_reason()?)
            .ok_or_else(|| Fail::corrupt(format!("a line of the timeline: {kind:?}")))?;
        found.push(TimelineEntry { session_id: id, at, kind, ip: c.ip()? });
    }
    Ok(found)
}
