//! The event log. The row of `log_head` is written last in a transaction and locked until its commit, so
//! numbers grow in commit order without a gap, and no reader passes a late commit by.

use super::{Columns, sql_limit, uuid};
use crate::StoreError;
use crate::postgres::fail::{Fail, Result};
use crate::postgres::pool::{Client, Param};
use reseal_core::event::{Event, EventKind, LoggedEvent};
use reseal_core::{SessionId, Timestamp, UserId};
use tokio_postgres::Row;
use uuid::Uuid;

/// Appends all events of a transaction. To be its last statement: from here on others wait for the commit.
pub(in crate::postgres) async fn append(client: &Client, events: &[Event]) -> Result<()> {
    let mut c = EventColumns::default();
    for event in events {
        c.push(event)?;
    }
    const APPEND: &str = "WITH head AS (
            UPDATE log_head SET seq = seq + cardinality($1::bigint[]) WHERE one = 1 RETURNING seq)
        INSERT INTO events (seq, until, kind, sid, sub, client_id, before, rev, reason, withdrawn)
        SELECT head.seq - cardinality($1::bigint[]) + e.i, e.until, e.kind, e.sid, e.sub, e.client_id, e.before,
            e.rev, e.reason, e.withdrawn
        FROM head, unnest($1::bigint[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[],
            $7::bigint[], $8::text[], $9::text[]) WITH ORDINALITY
            AS e (until, kind, sid, sub, client_id, before, rev, reason, withdrawn, i)";
    let params: [Param<'_>; 9] =
        [&c.until, &c.kind, &c.sid, &c.sub, &c.client, &c.before, &c.rev, &c.reason, &c.withdrawn];
    let appended = client.execute(APPEND, &params).await?;
    if appended != events.len() as u64 {
        return Err(Fail::corrupt("log_head is empty"));
    }
    Ok(())
}

#[derive(Default)]
pub(in crate::postgres) struct EventColumns<'e> {
    pub(in crate::postgres) until: Vec<i64>,
    pub(in crate::postgres) kind: Vec<&'static str>,
    pub(in crate::postgres) sid: Vec<Option<Uuid>>,
    pub(in crate::postgres) sub: Vec<Option<Uuid>>,
    pub(in crate::postgres) client: Vec<Option<&'e str>>,
    pub(in crate::postgres) before: Vec<Option<i64>>,
    pub(in crate::postgres) rev: Vec<Option<i64>>,
    pub(in crate::postgres) reason: Vec<Option<&'static str>>,
    pub(in crate::postgres) withdrawn: Vec<Option<String>>,
}

impl<'e> EventColumns<'e> {
    pub(in crate::postgres) fn push(&mut self, event: &'e Event) -> Result<()> {
        let kind = event.kind.type_name();
        let (mut sid, mut sub, mut client, mut before, mut rev, mut reason, mut withdrawn) =
            (None, None, None, None, None, None, None);
        match &event.kind {
            EventKind::SessionEnded { sid: id, reason: why } => {
                (sid, reason) = (Some(uuid(*id.as_bytes())), Some(why.as_str()));
            }
            EventKind::ClaimsChanged { sub: id, rev: least } => {
                (sub, rev) = (Some(uuid(*id.as_bytes())), Some(least.cast_signed()));
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
        self.until.push(event.until.millis());
        self.kind.push(kind);
        self.sid.push(sid);
        self.sub.push(sub);
        self.client.push(client);
        self.before.push(before);
        self.rev.push(rev);
        self.reason.push(reason);
        self.withdrawn.push(withdrawn);
        Ok(())
    }
}

pub(in crate::postgres) async fn after(client: &Client, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>> {
    const AFTER: &str = "SELECT seq, until, kind, sid, sub, client_id, before, rev, reason, withdrawn
        FROM events WHERE seq > $1 ORDER BY seq LIMIT $2";
    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
    client.query(AFTER, &[&seq, &sql_limit(limit)]).await?.iter().map(read).collect()
}

/// The number of the newest event ever logged.
pub(in crate::postgres) async fn last(client: &Client) -> Result<u64> {
    let row = client.query_opt("SELECT seq FROM log_head WHERE one = 1", &[]).await?;
    row.map_or(Err(Fail::corrupt("log_head is empty")), |row| Columns::of(&row).u64())
}

/// Deletes those whose time is over at `now`.
pub(in crate::postgres) async fn sweep(client: &Client, now: Timestamp, limit: usize) -> Result<u64> {
    const SWEEP: &str = "DELETE FROM events WHERE seq IN (
        SELECT seq FROM events WHERE until <= $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)";
    client.execute(SWEEP, &[&now.millis(), &sql_limit(limit)]).await
}

fn read(row: &Row) -> Result<LoggedEvent> {
    let mut c = Columns::of(row);
    let (seq, until, kind) = (c.u64()?, c.time()?, c.take::<&str>()?);
    let (sid, sub) = (c.bytes16_if_any()?, c.bytes16_if_any()?);
    let (client, before) = (c.take::<Option<&str>>()?, c.take::<Option<i64>>()?);
    let rev = c.take::<Option<i64>>()?;
    let (reason, withdrawn) = (c.end_reason()?, c.take::<Option<&str>>()?);
    let broken = || Fail::corrupt(format!("event {seq} ({kind})"));
    let kind = match kind {
        "session-ended" => EventKind::SessionEnded {
            sid: SessionId::from_bytes(sid.ok_or_else(broken)?),
            reason: reason.ok_or_else(broken)?,
        },
        "claims-changed" => EventKind::ClaimsChanged {
            sub: UserId::from_bytes(sub.ok_or_else(broken)?),
            rev: rev.ok_or_else(broken)?.cast_unsigned(),
        },
        "client-changed" => EventKind::ClientChanged {
            client_id: client.ok_or_else(broken)?.parse().map_err(|_| broken())?,
            before: before.ok_or_else(broken)?,
        },
        "keys-changed" => EventKind::KeysChanged {
            withdrawn: serde_json::from_str(withdrawn.ok_or_else(broken)?).map_err(|_| broken())?,
        },
        _ => return Err(broken()),
    };
    Ok(LoggedEvent { seq, event: Event { kind, until } })
}
