//! Sessions: the hot table.

use super::user::user_columns;
use super::{Columns, acr_number, ip_bytes, sql_limit, uuid};
use crate::cache::Caches;
use crate::postgres::fail::{self, Fail, Result};
use crate::postgres::known::{Fetched, Known, Numbers, parsed, user_agent};
use crate::postgres::pool::{Client, Param};
use crate::{Conflict, Snapshot};
use reseal_core::auth::Strength;
use reseal_core::session::{CookieState, Ended, Rotation};
use reseal_core::{Amr, KeyId, Session, SessionId, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

/// A session and the numbers under which it lies.
pub(in crate::postgres) struct SessionRow {
    pub(in crate::postgres) numbers: Numbers,
    pub(in crate::postgres) session: Session,
}

/// What every SELECT of sessions reads, in the order of [`read`].
macro_rules! session_columns {
    () => {
        "s.client, s.policy, s.scope, s.user_agent, s.id, u.id, s.version, s.used, s.used_nonce, s.branch,
        s.window_at, s.window_from, s.prev_window_at, s.prev_window_from, s.renewed_at, s.idle_expires_at,
        s.expires_at, s.started_at, s.key_id, s.acr, s.amr, s.authenticated_at, s.binding, s.ip, s.ended_at,
        s.end_reason, s.cookie_generation, s.cookie_raised_at, s.cookie_confirmed, s.cookie_acr, s.cookie_amr,
        s.cookie_authenticated_at"
    };
}
pub(in crate::postgres) use session_columns;

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", session_columns!(), " FROM sessions s JOIN users u ON u.n = s.user_n ", $rest)
    };
    (with user $rest:literal) => {
        concat!(
            "SELECT ",
            session_columns!(),
            ", ",
            user_columns!(),
            " FROM sessions s JOIN users u ON u.n = s.user_n ",
            $rest
        )
    };
}

/// All these sessions with their users, in one statement, in any order, each read by itself: what is wrong with one
/// is no other's affair. Those whose user was deleted are left out.
pub(in crate::postgres) async fn snapshots(
    client: &Client,
    known: &Known,
    ids: &[Uuid],
) -> Result<Vec<(SessionId, Result<(Numbers, Snapshot)>)>> {
    const MANY: &str = select!(with user "WHERE s.id = ANY ($1) AND u.version IS NOT NULL");
    let rows = client.query(MANY, &[&ids]).await?;
    let fetched = fetch(client, known, &rows, 0).await?;
    let mut caches = known.parsed();
    let mut read = |row| {
        let mut c = Columns::of(row);
        let found = read(&mut c, &mut caches, &fetched)?;
        let user = super::user::cached(&mut c, &mut caches)?;
        Ok((found.numbers, Snapshot { session: found.session, user }))
    };
    rows.iter().map(|row| Ok((id(row, 0)?, read(row)))).collect()
}

/// The id of the session whose [`session_columns`] come from that column on.
pub(in crate::postgres) fn id(row: &Row, at: usize) -> Result<SessionId> {
    Ok(SessionId::from_bytes(row.try_get::<_, Uuid>(at + 4)?.into_bytes()))
}

/// The texts of these rows that are not parsed yet; the numbers of a row's texts come at that column.
pub(in crate::postgres) async fn fetch(
    client: &Client,
    known: &Known,
    rows: &[Row],
    at: usize,
) -> Result<Fetched> {
    let numbers = |row: &Row| {
        Ok(Numbers {
            client: row.try_get(at)?,
            policy: row.try_get(at + 1)?,
            scope: row.try_get(at + 2)?,
            user_agent: row.try_get(at + 3)?,
        })
    };
    let numbers: Vec<Numbers> = rows.iter().map(numbers).collect::<Result<_>>()?;
    known.fetch(client, &numbers).await
}

/// The session alone, whose row is then locked.
pub(in crate::postgres) async fn by_id(
    client: &Client,
    known: &Known,
    id: SessionId,
) -> Result<Option<SessionRow>> {
    const ONE: &str = select!("WHERE s.id = $1 FOR NO KEY UPDATE OF s");
    Ok(list(client, known, ONE, &[&uuid(*id.as_bytes())]).await?.pop())
}

/// Locks sessions until the end of the transaction, in the order of their ids.
pub(in crate::postgres) async fn lock(client: &Client, ids: &[Uuid]) -> Result<()> {
    const LOCK: &str = "SELECT 1 FROM sessions WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE";
    client.query(LOCK, &[&ids]).await.map(drop)
}

/// A page of a user's sessions by id: ended or not are two ranges of one index, merged.
pub(in crate::postgres) async fn of_user(
    client: &Client,
    known: &Known,
    (user_n, after, limit): (i64, Option<SessionId>, usize),
) -> Result<Vec<SessionRow>> {
    const OF_USER: &str = select!(
        "WHERE s.id IN (SELECT id FROM (
            (SELECT id FROM sessions WHERE user_n = $1 AND NOT ended AND id > $2 ORDER BY id LIMIT $3)
            UNION ALL
            (SELECT id FROM sessions WHERE user_n = $1 AND ended AND id > $2 ORDER BY id LIMIT $3)
            ) AS both_ranges ORDER BY id LIMIT $3) ORDER BY s.id"
    );
    list(client, known, OF_USER, &[&user_n, &after_id(after), &sql_limit(limit)]).await
}

/// A page of a user's sessions that have not ended, by id, locked.
pub(in crate::postgres) async fn open_of_user(
    client: &Client,
    known: &Known,
    (user_n, after, limit): (i64, Option<SessionId>, usize),
) -> Result<Vec<SessionRow>> {
    const OPEN: &str = select!(
        "WHERE s.user_n = $1 AND NOT s.ended AND s.id > $2
        ORDER BY s.id LIMIT $3 FOR NO KEY UPDATE OF s"
    );
    list(client, known, OPEN, &[&user_n, &after_id(after), &sql_limit(limit)]).await
}

/// A user's sessions that have neither ended nor run out, but for the newest `keep`, locked. The one that is
/// starting counts among the newest, whatever its time.
pub(in crate::postgres) async fn surplus_of_user(
    client: &Client,
    known: &Known,
    (user_n, starting, now, keep): (i64, SessionId, Timestamp, usize),
) -> Result<Vec<SessionRow>> {
    const SURPLUS: &str = select!(
        "WHERE s.id IN (SELECT id FROM sessions WHERE user_n = $1 AND NOT ended AND idle_expires_at > $2
            ORDER BY started_at DESC, (id = $4) DESC, id OFFSET $3)
        ORDER BY s.id FOR NO KEY UPDATE OF s"
    );
    let id = uuid(*starting.as_bytes());
    list(client, known, SURPLUS, &[&user_n, &now.millis(), &sql_limit(keep), &id]).await
}

/// Some sessions of a client that have not ended, locked.
pub(in crate::postgres) async fn open_of_client(
    client: &Client,
    known: &Known,
    (client_n, limit): (i32, usize),
) -> Result<Vec<SessionRow>> {
    const OPEN: &str = select!(
        "WHERE s.id IN (SELECT id FROM sessions WHERE client = $1 AND NOT ended LIMIT $2) AND NOT s.ended
        ORDER BY s.id FOR NO KEY UPDATE OF s"
    );
    list(client, known, OPEN, &[&client_n, &sql_limit(limit)]).await
}

/// A page of all sessions that have not ended, by id.
pub(in crate::postgres) async fn open(
    client: &Client,
    known: &Known,
    (after, limit): (Option<SessionId>, usize),
) -> Result<Vec<SessionRow>> {
    const OPEN: &str = select!("WHERE s.id > $1 AND NOT s.ended ORDER BY s.id LIMIT $2");
    list(client, known, OPEN, &[&after_id(after), &sql_limit(limit)]).await
}

/// The number of the first client that has sessions, after `after`.
pub(in crate::postgres) async fn next_client(client: &Client, after: i32) -> Result<Option<i32>> {
    let row = client.query_opt("SELECT min(client) FROM sessions WHERE client > $1", &[&after]).await?;
    row.map_or(Ok(None), |row| Columns::of(&row).take())
}

/// Inserts a session of the user of that number.
pub(in crate::postgres) async fn insert(
    client: &Client,
    (user_n, numbers): (i64, Numbers),
    session: &Session,
) -> Result<()> {
    const INSERT: &str = "INSERT INTO sessions (id, user_n, client, policy, scope, user_agent, ended, sweep_day,
        version, used, used_nonce, branch, window_at, window_from, prev_window_at, prev_window_from, renewed_at,
        idle_expires_at, expires_at, started_at, key_id, acr, amr, authenticated_at, binding, ip, ended_at,
        end_reason, cookie_generation, cookie_raised_at, cookie_confirmed, cookie_acr, cookie_amr,
        cookie_authenticated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
        $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34)
        ON CONFLICT (id) DO NOTHING";
    let inserted = write_all(client, INSERT, (user_n, numbers, None), session).await?;
    fail::unless_none(inserted, Conflict::SessionExists)
}

/// Writes the whole of `next` over its row, if that still is of version `before` and has not ended.
pub(in crate::postgres) async fn swap_whole(
    client: &Client,
    (user_n, numbers, before): (i64, Numbers, u32),
    next: &Session,
) -> Result<bool> {
    const REPLACE: &str = "UPDATE sessions SET user_n = $2, client = $3, policy = $4, scope = $5,
        user_agent = $6, ended = $7, sweep_day = $8, version = $9, used = $10, used_nonce = $11, branch = $12,
        window_at = $13, window_from = $14, prev_window_at = $15, prev_window_from = $16, renewed_at = $17,
        idle_expires_at = $18, expires_at = $19, started_at = $20, key_id = $21, acr = $22, amr = $23,
        authenticated_at = $24, binding = $25, ip = $26, ended_at = $27, end_reason = $28,
        cookie_generation = $29, cookie_raised_at = $30, cookie_confirmed = $31, cookie_acr = $32,
        cookie_amr = $33, cookie_authenticated_at = $34 WHERE id = $1 AND version = $35 AND NOT ended";
    Ok(write_all(client, REPLACE, (user_n, numbers, Some(before)), next).await? > 0)
}

/// Writes over these rows what a renewal, a touch or an end writes ([`same_but_hot`]), each if it still is of
/// the version before and has not ended; the ids of those that were. To be sorted by id.
pub(in crate::postgres) async fn swap_hot(client: &Client, next: &[&Session]) -> Result<Vec<SessionId>> {
    const SWAP: &str = "UPDATE sessions s SET version = p.version, used = p.used, used_nonce = p.used_nonce,
        branch = p.branch, window_at = p.window_at, window_from = p.window_from,
        prev_window_at = p.prev_window_at, prev_window_from = p.prev_window_from, renewed_at = p.renewed_at,
        idle_expires_at = p.idle_expires_at, expires_at = p.expires_at, sweep_day = p.sweep_day,
        ended = p.ended_at IS NOT NULL, ended_at = p.ended_at, end_reason = p.end_reason
        FROM (SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::uuid[],
            $6::integer[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
            $12::bigint[], $13::bigint[], $14::integer[], $15::bigint[], $16::text[])
            AS x (id, before, version, used, used_nonce, branch, window_at, window_from, prev_window_at,
            prev_window_from, renewed_at, idle_expires_at, expires_at, sweep_day, ended_at, end_reason)
            ORDER BY id) AS p
        WHERE s.id = p.id AND s.version = p.before AND NOT s.ended RETURNING s.id";
    let longs = |f: fn(&Session) -> i64| next.iter().map(|s| f(s)).collect::<Vec<i64>>();
    let ints = |f: fn(&Session) -> i32| next.iter().map(|s| f(s)).collect::<Vec<i32>>();
    let uuids = |f: fn(&Session) -> [u8; 16]| next.iter().map(|s| uuid(f(s))).collect::<Vec<Uuid>>();
    let ended_at: Vec<Option<i64>> = next.iter().map(|s| s.ended.map(|e| e.at.millis())).collect();
    let end_reason: Vec<Option<&str>> = next.iter().map(|s| s.ended.map(|e| e.reason.as_str())).collect();
    let params: [Param<'_>; 16] = [
        &uuids(|s| *s.id.as_bytes()),
        &ints(|s| s.version.wrapping_sub(1).cast_signed()),
        &ints(|s| s.version.cast_signed()),
        &longs(|s| s.rotation.used.cast_signed()),
        &uuids(|s| s.rotation.used_nonce),
        &ints(|s| s.rotation.branch.cast_signed()),
        &longs(|s| s.rotation.window_at.millis()),
        &longs(|s| s.rotation.window_from.cast_signed()),
        &longs(|s| s.rotation.prev_window_at.millis()),
        &longs(|s| s.rotation.prev_window_from.cast_signed()),
        &longs(|s| s.renewed_at.millis()),
        &longs(|s| s.idle_expires_at.millis()),
        &longs(|s| s.expires_at.millis()),
        &ints(sweep_day),
        &ended_at,
        &end_reason,
    ];
    let rows = client.query(SWAP, &params).await?;
    rows.iter().map(|row| Ok(SessionId::from_bytes(Columns::of(row).bytes16()?))).collect()
}

/// Deletes outdated sessions, at most `limit`, passing by those that are in use; their ids.
pub(in crate::postgres) async fn delete_outdated(
    client: &Client,
    (day, before): (i32, Timestamp),
    (limit, look_at): (usize, usize),
) -> Result<Vec<Uuid>> {
    const PAST_DAYS: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE sweep_day < $1
        ORDER BY sweep_day LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id";
    const THIS_DAY: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM (
            SELECT id, ended_at, idle_expires_at FROM sessions WHERE sweep_day = $1 LIMIT $3
            FOR UPDATE SKIP LOCKED) AS looked_at
        WHERE coalesce(ended_at, idle_expires_at) < $2 LIMIT $4) RETURNING id";
    let ids = |rows: Vec<Row>| rows.iter().map(|row| Columns::of(row).take()).collect::<Result<Vec<Uuid>>>();
    let mut deleted = ids(client.query(PAST_DAYS, &[&day, &sql_limit(limit)]).await?)?;
    if deleted.len() < limit {
        let left = sql_limit(limit - deleted.len());
        let params: [Param<'_>; 4] = [&day, &before.millis(), &sql_limit(look_at), &left];
        deleted.extend(ids(client.query(THIS_DAY, &params).await?)?);
    }
    Ok(deleted)
}

/// The days that have passed when a row is outdated by its end or its deadline.
pub(in crate::postgres) fn day(at: Timestamp) -> i32 {
    let day = at.millis().div_euclid(86_400_000);
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX })
}

pub(in crate::postgres) fn sweep_day(session: &Session) -> i32 {
    day(session.ended.map_or(session.idle_expires_at, |ended| ended.at))
}

/// Whether only what [`swap_hot`] writes differs. Taken apart, so that a new member cannot be forgotten.
pub(in crate::postgres) fn same_but_hot(last: &Session, next: &Session) -> bool {
    let Session {
        id,
        user_id,
        client_id,
        policy,
        scope,
        version: _,
        rotation: _,
        key_id,
        renewed_at: _,
        started_at,
        idle_expires_at: _,
        expires_at: _,
        strength,
        cookie,
        binding,
        user_agent,
        ip,
        ended: _,
    } = next;
    (id, user_id, key_id, started_at) == (&last.id, &last.user_id, &last.key_id, &last.started_at)
        && (strength, cookie, binding, ip) == (&last.strength, &last.cookie, &last.binding, &last.ip)
        && (client_id, policy, scope, user_agent)
            == (&last.client_id, &last.policy, &last.scope, &last.user_agent)
}

/// Binds every column: shared by INSERT and the full UPDATE, which has the version before as well.
async fn write_all(
    client: &Client,
    sql: &'static str,
    (user_n, numbers, before): (i64, Numbers, Option<u32>),
    s: &Session,
) -> Result<u64> {
    let cookie = s.cookie.as_ref();
    let binding = s.binding.as_ref().map(|b| &b[..]);
    let before_version = before.map(u32::cast_signed);
    let params: [Param<'_>; 35] = [
        &uuid(*s.id.as_bytes()),
        &user_n,
        &numbers.client,
        &numbers.policy,
        &numbers.scope,
        &numbers.user_agent,
        &s.ended.is_some(),
        &sweep_day(s),
        &s.version.cast_signed(),
        &s.rotation.used.cast_signed(),
        &uuid(s.rotation.used_nonce),
        &s.rotation.branch.cast_signed(),
        &s.rotation.window_at.millis(),
        &s.rotation.window_from.cast_signed(),
        &s.rotation.prev_window_at.millis(),
        &s.rotation.prev_window_from.cast_signed(),
        &s.renewed_at.millis(),
        &s.idle_expires_at.millis(),
        &s.expires_at.millis(),
        &s.started_at.millis(),
        &s.key_id.0.cast_signed(),
        &acr_number(s.strength.acr),
        &s.strength.amr.bits().cast_signed(),
        &s.strength.authenticated_at.millis(),
        &binding,
        &ip_bytes(s.ip),
        &s.ended.map(|e| e.at.millis()),
        &s.ended.map(|e| e.reason.as_str()),
        &cookie.map(|c| c.generation.cast_signed()),
        &cookie.map(|c| c.raised_at.millis()),
        &cookie.map(|c| c.confirmed),
        &cookie.map(|c| acr_number(c.previous.acr)),
        &cookie.map(|c| c.previous.amr.bits().cast_signed()),
        &cookie.map(|c| c.previous.authenticated_at.millis()),
        &before_version,
    ];
    client.execute(sql, &params[..if before.is_some() { 35 } else { 34 }]).await
}

pub(in crate::postgres) async fn list(
    client: &Client,
    known: &Known,
    sql: &'static str,
    params: &[Param<'_>],
) -> Result<Vec<SessionRow>> {
    let rows = client.query(sql, params).await?;
    let fetched = fetch(client, known, &rows, 0).await?;
    let mut caches = known.parsed();
    rows.iter().map(|row| read(&mut Columns::of(row), &mut caches, &fetched)).collect()
}

/// Reads [`session_columns`].
pub(in crate::postgres) fn read(
    c: &mut Columns<'_>,
    caches: &mut Caches,
    fetched: &Fetched,
) -> Result<SessionRow> {
    let numbers = Numbers { client: c.take()?, policy: c.take()?, scope: c.take()?, user_agent: c.take()? };
    let (id, user_id) = (SessionId::from_bytes(c.bytes16()?), c.user_id()?);
    let version = c.u32()?;
    let rotation = Rotation {
        used: c.u64()?,
        used_nonce: c.bytes16()?,
        branch: c.u32()?,
        window_at: c.time()?,
        window_from: c.u64()?,
        prev_window_at: c.time()?,
        prev_window_from: c.u64()?,
    };
    let (renewed_at, idle_expires_at, expires_at) = (c.time()?, c.time()?, c.time()?);
    let (started_at, key_id) = (c.time()?, KeyId(c.u32()?));
    let strength = read_strength(c)?;
    let (binding, ip) = (c.bytes32_if_any()?, c.ip()?);
    let ended = match (c.time_if_any()?, c.end_reason()?) {
        (Some(at), Some(reason)) => Some(Ended { at, reason }),
        (None, None) => None,
        _ => return Err(Fail::corrupt("half an end")),
    };
    let cookie = read_cookie(c)?;
    let session = Session {
        id,
        user_id,
        client_id: parsed(&mut caches.clients, numbers.client, fetched)?,
        policy: parsed(&mut caches.policies, numbers.policy, fetched)?,
        scope: parsed(&mut caches.scopes, numbers.scope, fetched)?,
        version,
        rotation,
        key_id,
        renewed_at,
        started_at,
        idle_expires_at,
        expires_at,
        strength,
        cookie,
        binding,
        user_agent: numbers
            .user_agent
            .and_then(|n| user_agent(&mut caches.user_agents, n, fetched))
            .map(|agent| agent.as_ref().to_owned()),
        ip,
        ended,
    };
    Ok(SessionRow { numbers, session })
}

fn read_cookie(c: &mut Columns<'_>) -> Result<Option<CookieState>> {
    let (generation, raised_at): (Option<i32>, Option<Timestamp>) = (c.take()?, c.time_if_any()?);
    let (confirmed, acr): (Option<bool>, Option<i16>) = (c.take()?, c.take()?);
    let (amr, authenticated_at): (Option<i32>, Option<Timestamp>) = (c.take()?, c.time_if_any()?);
    let Some(generation) = generation else { return Ok(None) };
    let broken = || Fail::corrupt("half a cookie");
    let acr = match acr {
        Some(1) => reseal_core::Acr::Aal1,
        Some(2) => reseal_core::Acr::Aal2,
        _ => return Err(broken()),
    };
    Ok(Some(CookieState {
        generation: generation.cast_unsigned(),
        raised_at: raised_at.ok_or_else(broken)?,
        confirmed: confirmed.ok_or_else(broken)?,
        previous: Strength {
            acr,
            amr: Amr::from_bits(amr.ok_or_else(broken)?.cast_unsigned()),
            authenticated_at: authenticated_at.ok_or_else(broken)?,
        },
    }))
}

fn read_strength(c: &mut Columns<'_>) -> Result<Strength> {
    let (acr, amr) = (c.acr()?, Amr::from_bits(c.u32()?));
    Ok(Strength { acr, amr, authenticated_at: c.time()? })
}

/// Ids are random: none is zero.
fn after_id(after: Option<SessionId>) -> Uuid {
    after.map_or(Uuid::nil(), |id| uuid(*id.as_bytes()))
}
