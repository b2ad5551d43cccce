//! What hot sessions need of their rows here.

use super::session::{SessionRow, day, list, session_columns};
use super::{Columns, sql_limit, uuid};
use crate::postgres::fail::Result;
use crate::postgres::known::Known;
use crate::postgres::pool::{Client, Param};
use crate::redis::{Edition, Head, Renewed};
use reseal_core::{Session, SessionId, Timestamp};
use std::collections::HashMap;
use uuid::Uuid;

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", session_columns!(), " FROM sessions s JOIN users u ON u.n = s.user_n ", $rest)
    };
}

/// What hot rows are held against: of sessions that are there and whose user is.
pub(in crate::postgres) async fn heads(client: &Client, ids: &[Uuid]) -> Result<HashMap<SessionId, Head>> {
    const HEADS: &str = "SELECT s.id, s.version, s.ended, u.id, u.version, u.created_at, u.updated_at
        FROM sessions s JOIN users u ON u.n = s.user_n WHERE s.id = ANY ($1) AND u.version IS NOT NULL";
    let rows = client.query(HEADS, &[&ids]).await?;
    let read = |row| {
        let mut c = Columns::of(row);
        let id = SessionId::from_bytes(c.bytes16()?);
        let (version, ended, user_id) = (c.u32()?, c.take()?, c.user_id()?);
        let edition = Edition { version: c.u32()?, created_at: c.time()?, updated_at: c.time()? };
        Ok((id, Head { version, ended, user_id, edition }))
    };
    rows.iter().map(read).collect()
}

/// Whole rows.
pub(in crate::postgres) async fn by_ids(
    client: &Client,
    known: &Known,
    ids: &[Uuid],
) -> Result<Vec<SessionRow>> {
    list(client, known, select!("WHERE s.id = ANY ($1)"), &[&ids]).await
}

/// Rows that a sweep would take, as [`super::session::delete_outdated`] has it.
pub(in crate::postgres) async fn outdated(
    client: &Client,
    known: &Known,
    (before, limit, look_at): (Timestamp, usize, usize),
) -> Result<Vec<SessionRow>> {
    const PAST_DAYS: &str =
        select!("WHERE s.id IN (SELECT id FROM sessions WHERE sweep_day < $1 ORDER BY sweep_day LIMIT $2)");
    const THIS_DAY: &str = select!(
        "WHERE s.id IN (SELECT id FROM (
            SELECT id, ended_at, idle_expires_at FROM sessions WHERE sweep_day = $1 LIMIT $3) AS looked_at
        WHERE coalesce(ended_at, idle_expires_at) < $2 LIMIT $4)"
    );
    let mut found = list(client, known, PAST_DAYS, &[&day(before), &sql_limit(limit)]).await?;
    if found.len() < limit {
        let left = sql_limit(limit - found.len());
        let params: [Param<'_>; 4] = [&day(before), &before.millis(), &sql_limit(look_at), &left];
        found.extend(list(client, known, THIS_DAY, &params).await?);
    }
    Ok(found)
}

/// Writes rotation and deadlines over rows that are of that version, have not ended and were used before that
/// (see [`Renewed::order`]).
pub(in crate::postgres) async fn write_back(client: &Client, rows: &[Renewed]) -> Result<()> {
    const WRITE: &str = "UPDATE sessions s SET used = p.used, used_nonce = p.used_nonce, branch = p.branch,
        window_at = p.window_at, window_from = p.window_from, prev_window_at = p.prev_window_at,
        prev_window_from = p.prev_window_from, renewed_at = p.renewed_at,
        idle_expires_at = p.idle_expires_at, expires_at = p.expires_at, sweep_day = p.sweep_day
        FROM (SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::uuid[], $5::integer[],
            $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
            $12::bigint[], $13::integer[])
            AS x (id, version, used, used_nonce, branch, window_at, window_from, prev_window_at,
            prev_window_from, renewed_at, idle_expires_at, expires_at, sweep_day)
            ORDER BY id) AS p
        WHERE s.id = p.id AND s.version = p.version AND NOT s.ended
        AND (s.used, s.branch, s.renewed_at) < (p.used, p.branch, p.renewed_at)";
    // In the order of ids, so that two of them cannot wait for each other.
    let mut rows: Vec<&Renewed> = rows.iter().collect();
    rows.sort_unstable_by_key(|row| row.id);
    let longs = |f: fn(&Renewed) -> i64| rows.iter().map(|row| f(row)).collect::<Vec<i64>>();
    let ints = |f: fn(&Renewed) -> i32| rows.iter().map(|row| f(row)).collect::<Vec<i32>>();
    let uuids = |f: fn(&Renewed) -> [u8; 16]| rows.iter().map(|row| uuid(f(row))).collect::<Vec<Uuid>>();
    let params: [Param<'_>; 13] = [
        &uuids(|row| *row.id.as_bytes()),
        &ints(|row| row.version.cast_signed()),
        &longs(|row| row.rotation.used.cast_signed()),
        &uuids(|row| row.rotation.used_nonce),
        &ints(|row| row.rotation.branch.cast_signed()),
        &longs(|row| row.rotation.window_at.millis()),
        &longs(|row| row.rotation.window_from.cast_signed()),
        &longs(|row| row.rotation.prev_window_at.millis()),
        &longs(|row| row.rotation.prev_window_from.cast_signed()),
        &longs(|row| row.renewed_at.millis()),
        &longs(|row| row.idle_expires_at.millis()),
        &longs(|row| row.expires_at.millis()),
        &ints(|row| day(row.idle_expires_at)),
    ];
    client.execute(WRITE, &params).await.map(drop)
}

/// Deletes rows that are still as they were read; their ids.
pub(in crate::postgres) async fn delete_unchanged(client: &Client, read: &[Session]) -> Result<Vec<Uuid>> {
    const DELETE: &str = "DELETE FROM sessions s USING unnest($1::uuid[], $2::integer[], $3::bigint[])
            AS p (id, version, idle_expires_at)
        WHERE s.id = p.id AND s.version = p.version AND s.idle_expires_at = p.idle_expires_at RETURNING s.id";
    let ids: Vec<Uuid> = read.iter().map(|session| uuid(*session.id.as_bytes())).collect();
    let versions: Vec<i32> = read.iter().map(|session| session.version.cast_signed()).collect();
    let deadlines: Vec<i64> = read.iter().map(|session| session.idle_expires_at.millis()).collect();
    let rows = client.query(DELETE, &[&ids, &versions, &deadlines]).await?;
    rows.iter().map(|row| Columns::of(row).take()).collect()
}
