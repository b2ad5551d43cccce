//! Timelines: a few lines per session, numbered from 0.

use super::{Columns, ip_bytes, uuid};
use crate::postgres::fail::{Fail, Result};
use crate::postgres::pool::{Client, Param};
use reseal_core::timeline::TIMELINE_MAX;
use reseal_core::{SessionId, TimelineEntry, TimelineKind};
use std::collections::HashMap;
use uuid::Uuid;

/// Adds lines in order, those but for ends only as long as there is room. No session, no line. The rows of the
/// sessions must be locked, or two transactions would give the same number.
pub(in crate::postgres) async fn append(client: &Client, entries: &[TimelineEntry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut seen: HashMap<SessionId, i16> = HashMap::new();
    let (mut session, mut offset, mut at) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kind, mut reason, mut ip) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let count = seen.entry(entry.session_id).or_default();
        // More than fit into a timeline at once: the rest has no room either, but for an end.
        if usize::try_from(*count).is_ok_and(|c| c > TIMELINE_MAX) && entry.kind.reason().is_none() {
            continue;
        }
        session.push(uuid(*entry.session_id.as_bytes()));
        offset.push(*count);
        at.push(entry.at.millis());
        kind.push(entry.kind.as_str());
        reason.push(entry.kind.reason().map(|r| r.as_str()));
        ip.push(ip_bytes(entry.ip));
        *count = count.saturating_add(1);
    }
    const APPEND: &str = "INSERT INTO timeline (session, i, at, kind, reason, ip)
        SELECT session, i, at, kind, reason, ip FROM (
            SELECT e.*, (e.offs + coalesce((SELECT max(i) + 1 FROM timeline t WHERE t.session = e.session), 0))
                ::smallint AS i
            FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::bytea[])
                AS e (session, offs, at, kind, reason, ip)
            WHERE EXISTS (SELECT 1 FROM sessions s WHERE s.id = e.session)) AS line
        WHERE i < $7 OR reason IS NOT NULL";
    let max = i16::try_from(TIMELINE_MAX).unwrap_or(i16::MAX);
    let params: [Param<'_>; 7] = [&session, &offset, &at, &kind, &reason, &ip, &max];
    client.execute(APPEND, &params).await.map(drop)
}

/// All lines, oldest first.
pub(in crate::postgres) async fn of(client: &Client, id: SessionId) -> Result<Vec<TimelineEntry>> {
    const OF: &str = "SELECT at, kind, reason, ip FROM timeline WHERE session = $1 ORDER BY i";
    let rows = client.query(OF, &[&uuid(*id.as_bytes())]).await?;
    let read = |row| {
        let mut c = Columns::of(row);
        let (at, kind) = (c.time()?, c.take::<&str>()?);
        let kind = TimelineKind::from_parts(kind, c.end_reason()?)
            .ok_or_else(|| Fail::corrupt(format!("a line of the timeline: {kind:?}")))?;
        Ok(TimelineEntry { session_id: id, at, kind, ip: c.ip()? })
    };
    rows.iter().map(read).collect()
}

/// Deletes the timelines of sessions that are gone.
pub(in crate::postgres) async fn delete(client: &Client, sessions: &[Uuid]) -> Result<()> {
    client.execute("DELETE FROM timeline WHERE session = ANY ($1)", &[&sessions]).await.map(drop)
}
