//! Sessions: the hot table.

use super::user::Edition;
use super::{Columns, IpBytes, acr_number, text};
use crate::sqlite::cache::Caches;
use crate::sqlite::fail::{self, Fail, Result};
use crate::{Conflict, Snapshot};
use reseal_core::auth::Strength;
use reseal_core::session::{CookieState, Ended, Rotation};
use reseal_core::{Amr, KeyId, Session, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

/// A session and where it lies.
pub(in crate::sqlite) struct SessionRow {
    pub(in crate::sqlite) place: Place,
    pub(in crate::sqlite) session: Session,
}

/// The numbers by which a row is known inside the file.
#[derive(Clone, Copy)]
pub(in crate::sqlite) struct Place {
    pub(in crate::sqlite) n: i64,
    texts: Texts,
}

/// The numbers of a row's texts.
#[derive(Clone, Copy)]
struct Texts {
    client: i64,
    policy: i64,
    scope: i64,
    user_agent: Option<i64>,
}

/// What every SELECT of sessions reads, in the order of [`read`].
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.n, s.user, u.id, u.version, u.created_at, s.id, s.client, s.policy, s.scope, s.user_agent,
            s.version, s.used, s.used_nonce, s.branch, s.window_at, s.window_from, s.prev_window_at,
            s.prev_window_from, s.renewed_at, s.idle_expires_at, s.expires_at, s.started_at, s.key_id,
            s.acr, s.amr, s.authenticated_at, s.binding, s.ip, s.ended_at, s.end_reason,
            s.cookie_generation, s.cookie_raised_at, s.cookie_confirmed, s.cookie_acr, s.cookie_amr,
            s.cookie_authenticated_at
            FROM sessions s CROSS JOIN users u ON u.n = s.user ",
            $rest
        )
    };
}

/// The session with its user; none when the user was deleted.
pub(in crate::sqlite) fn snapshot(
    conn: &Connection,
    caches: &mut Caches,
    id: SessionId,
) -> Result<Option<(Place, Snapshot)>> {
    let mut statement = conn.prepare_cached(select!("WHERE s.id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    // While `rows` is open, every statement on this connection sees the same snapshot.
    let Some(row) = rows.next()? else { return Ok(None) };
    let (found, user_n, edition) = read(conn, caches, row)?;
    let Some(edition) = edition else { return Ok(None) };
    let user = super::user::cached(conn, caches, (found.session.user_id, user_n, edition))?;
    Ok(Some((found.place, Snapshot { session: found.session, user })))
}

/// The session alone.
pub(in crate::sqlite) fn by_id(
    conn: &Connection,
    caches: &mut Caches,
    id: SessionId,
) -> Result<Option<SessionRow>> {
    Ok(list(conn, caches, select!("WHERE s.id = ?1"), params![id.as_bytes()])?.pop())
}

/// A page of a user's sessions by id: ended or not are two ranges of one index, merged.
pub(in crate::sqlite) fn of_user(
    conn: &Connection,
    caches: &mut Caches,
    user_n: i64,
    (after, limit): (Option<SessionId>, usize),
) -> Result<Vec<SessionRow>> {
    const OF_USER: &str = select!(
        "WHERE s.n IN (SELECT n FROM (
            SELECT n, id FROM sessions WHERE user = ?1 AND ended = 0 AND id > ?2
            UNION ALL
            SELECT n, id FROM sessions WHERE user = ?1 AND ended = 1 AND id > ?2
            ORDER BY id LIMIT ?3)) ORDER BY s.id"
    );
    list(conn, caches, OF_USER, params![user_n, after_id(&after), sql_limit(limit)])
}

/// A page of a user's sessions that have not ended, by id.
pub(in crate::sqlite) fn open_of_user(
    conn: &Connection,
    caches: &mut Caches,
    user_n: i64,
    (after, limit): (Option<SessionId>, usize),
) -> Result<Vec<SessionRow>> {
    const OPEN: &str = select!("WHERE s.user = ?1 AND s.ended = 0 AND s.id > ?2 ORDER BY s.id LIMIT ?3");
    list(conn, caches, OPEN, params![user_n, after_id(&after), sql_limit(limit)])
}

/// A user's sessions that have neither ended nor run out, but for the newest `keep`.
pub(in crate::sqlite) fn surplus_of_user(
    conn: &Connection,
    caches: &mut Caches,
    user_n: i64,
    (now, keep): (Timestamp, usize),
) -> Result<Vec<SessionRow>> {
    const SURPLUS: &str = select!(
        "WHERE s.user = ?1 AND s.ended = 0 AND s.idle_expires_at > ?2
        ORDER BY s.started_at DESC, s.n DESC LIMIT -1 OFFSET ?3"
    );
    list(conn, caches, SURPLUS, params![user_n, now.millis(), sql_limit(keep)])
}

/// Some sessions of a client that have not ended.
pub(in crate::sqlite) fn open_of_client(
    conn: &Connection,
    caches: &mut Caches,
    client_n: i64,
    limit: usize,
) -> Result<Vec<SessionRow>> {
    const OPEN: &str = select!("WHERE s.client = ?1 AND s.ended = 0 LIMIT ?2");
    list(conn, caches, OPEN, params![client_n, sql_limit(limit)])
}

/// A page of all sessions that have not ended, by id.
pub(in crate::sqlite) fn open(
    conn: &Connection,
    caches: &mut Caches,
    (after, limit): (Option<SessionId>, usize),
) -> Result<Vec<SessionRow>> {
    const OPEN: &str = select!("WHERE s.id > ?1 AND s.ended = 0 ORDER BY s.id LIMIT ?2");
    list(conn, caches, OPEN, params![after_id(&after), sql_limit(limit)])
}

/// A page of all sessions by where they lie: those with numbers in that range.
pub(in crate::sqlite) fn lying_in(
    conn: &Connection,
    caches: &mut Caches,
    (after, last): (i64, i64),
    limit: usize,
) -> Result<Vec<SessionRow>> {
    const PAGE: &str = select!("WHERE s.n > ?1 AND s.n <= ?2 ORDER BY s.n LIMIT ?3");
    list(conn, caches, PAGE, params![after, last, sql_limit(limit)])
}

/// The number of the first client that has sessions, after `after`.
pub(in crate::sqlite) fn next_client(conn: &Connection, after: i64) -> Result<Option<i64>> {
    let next = conn
        .prepare_cached("SELECT min(client) FROM sessions WHERE client > ?1")?
        .query_row([after], |row| row.get(0))?;
    Ok(next)
}

/// Inserts a session of the user of that number.
pub(in crate::sqlite) fn insert(conn: &Connection, user_n: i64, session: &Session) -> Result<()> {
    let texts = Texts::hold(conn, session)?;
    const INSERT: &str = "INSERT INTO sessions (n, user, id, client, policy, scope, user_agent, ended,
        sweep_day, version, used, used_nonce, branch, window_at, window_from, prev_window_at,
        prev_window_from, renewed_at, idle_expires_at, expires_at, started_at, key_id, acr, amr,
        authenticated_at, binding, ip, ended_at, end_reason, cookie_generation, cookie_raised_at,
        cookie_confirmed, cookie_acr, cookie_amr, cookie_authenticated_at)
        VALUES (:n, :user, :id, :client, :policy, :scope, :user_agent, :ended,
        :sweep_day, :version, :used, :used_nonce, :branch, :window_at, :window_from, :prev_window_at,
        :prev_window_from, :renewed_at, :idle_expires_at, :expires_at, :started_at, :key_id, :acr, :amr,
        :authenticated_at, :binding, :ip, :ended_at, :end_reason, :cookie_generation, :cookie_raised_at,
        :cookie_confirmed, :cookie_acr, :cookie_amr, :cookie_authenticated_at)";
    let inserted = write_all(conn, INSERT, (None, user_n, texts), session);
    fail::unless_taken(inserted, Conflict::SessionExists)?;
    Ok(())
}

/// Inserts the session, or writes it over whatever the row of that id holds; of a user of that number.
pub(in crate::sqlite) fn put(conn: &Connection, user_n: i64, session: &Session) -> Result<()> {
    match place(conn, session.id)? {
        Some(place) => replace_all(conn, place, session),
        None => insert(conn, user_n, session),
    }
}

/// Where the session lies.
pub(in crate::sqlite) fn place(conn: &Connection, id: SessionId) -> Result<Option<Place>> {
    const PLACE: &str = "SELECT n, client, policy, scope, user_agent FROM sessions WHERE id = ?1";
    let place = conn.prepare_cached(PLACE)?.query_row([id.as_bytes()], |row| {
        let (client, policy, scope) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Place { n: row.get(0)?, texts: Texts { client, policy, scope, user_agent: row.get(4)? } })
    });
    Ok(place.optional()?)
}

/// Writes `next` over `last`, which lies there, touching no more columns and indexes than have changed.
pub(in crate::sqlite) fn replace(
    conn: &Connection,
    (place, last): (Place, &Session),
    next: &Session,
) -> Result<()> {
    if same_but_hot(last, next) {
        renew(conn, place.n, next)?;
        if sweep_day(last) != sweep_day(next) {
            conn.prepare_cached("UPDATE sessions SET sweep_day = ?2 WHERE n = ?1")?
                .execute(params![place.n, sweep_day(next)])?;
        }
        return Ok(());
    }
    if same_but_end(last, next) {
        return end(conn, place.n, next);
    }
    replace_all(conn, place, next)
}

/// Whether [`replace`] is one statement, which needs no savepoint.
pub(in crate::sqlite) fn is_one_statement(last: &Session, next: &Session) -> bool {
    same_but_hot(last, next) && sweep_day(last) == sweep_day(next)
}

/// Deletes a row with its timeline, and releases its texts.
pub(in crate::sqlite) fn delete(conn: &Connection, n: i64) -> Result<()> {
    const DELETE: &str = "DELETE FROM sessions WHERE n = ?1 RETURNING client, policy, scope, user_agent";
    let texts = conn.prepare_cached(DELETE)?.query_row([n], |row| {
        Ok(Texts { client: row.get(0)?, policy: row.get(1)?, scope: row.get(2)?, user_agent: row.get(3)? })
    })?;
    texts.release(conn)
}

/// What hot sessions are held against.
#[cfg(any(test, feature = "conformance"))]
pub(in crate::sqlite) fn head(conn: &Connection, id: SessionId) -> Result<Option<crate::redis::Head>> {
    const HEAD: &str = "SELECT s.version, s.ended, u.id, u.version, u.created_at, u.updated_at
        FROM sessions s JOIN users u ON u.n = s.user WHERE s.id = ?1 AND u.version IS NOT NULL";
    let mut statement = conn.prepare_cached(HEAD)?;
    let mut rows = statement.query([id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut c = Columns::of(row);
    let (version, ended, user_id) = (c.take()?, c.take()?, c.user_id()?);
    let edition = crate::redis::Edition { version: c.take()?, created_at: c.time()?, updated_at: c.time()? };
    Ok(Some(crate::redis::Head { version, ended, user_id, edition }))
}

/// What a sweep would take.
#[cfg(any(test, feature = "conformance"))]
pub(in crate::sqlite) fn outdated(
    conn: &Connection,
    caches: &mut Caches,
    (before, limit): (Timestamp, usize),
) -> Result<Vec<SessionRow>> {
    const OUTDATED: &str = select!(
        "WHERE s.sweep_day <= ?1 AND (s.sweep_day < ?1 OR coalesce(s.ended_at, s.idle_expires_at) < ?2)
        ORDER BY s.sweep_day LIMIT ?3"
    );
    list(conn, caches, OUTDATED, params![day(before), before.millis(), sql_limit(limit)])
}

/// Deletes the row that lies there.
#[cfg(any(test, feature = "conformance"))]
pub(in crate::sqlite) fn remove(conn: &Connection, place: Place) -> Result<()> {
    delete(conn, place.n)
}

/// The days that have passed when a row is outdated by its end or its deadline.
pub(in crate::sqlite) fn day(at: Timestamp) -> i64 {
    at.millis().div_euclid(86_400_000)
}

fn sweep_day(session: &Session) -> i64 {
    day(session.ended.map_or(session.idle_expires_at, |ended| ended.at))
}

/// What a renewal or a touch writes: no index holds any of it.
fn renew(conn: &Connection, n: i64, next: &Session) -> Result<()> {
    const RENEW: &str = "UPDATE sessions SET version = ?2, used = ?3, used_nonce = ?4, branch = ?5,
        window_at = ?6, window_from = ?7, prev_window_at = ?8, prev_window_from = ?9, renewed_at = ?10,
        idle_expires_at = ?11, expires_at = ?12 WHERE n = ?1";
    let rotation = &next.rotation;
    conn.prepare_cached(RENEW)?.execute(params![
        n,
        next.version,
        rotation.used.cast_signed(),
        rotation.used_nonce,
        rotation.branch,
        rotation.window_at.millis(),
        rotation.window_from.cast_signed(),
        rotation.prev_window_at.millis(),
        rotation.prev_window_from.cast_signed(),
        next.renewed_at.millis(),
        next.idle_expires_at.millis(),
        next.expires_at.millis(),
    ])?;
    Ok(())
}

fn end(conn: &Connection, n: i64, next: &Session) -> Result<()> {
    const END: &str = "UPDATE sessions SET version = ?2, ended = ?3, ended_at = ?4, end_reason = ?5,
        sweep_day = ?6 WHERE n = ?1";
    conn.prepare_cached(END)?.execute(params![
        n,
        next.version,
        next.ended.is_some(),
        next.ended.map(|e| e.at.millis()),
        next.ended.map(|e| e.reason.as_str()),
        sweep_day(next),
    ])?;
    Ok(())
}

fn replace_all(conn: &Connection, place: Place, next: &Session) -> Result<()> {
    let user_n = super::user::number(conn, next.user_id)?.ok_or(Fail::Conflict(Conflict::SessionChanged))?;
    // First held, then released: a text that stays is never at zero.
    let texts = Texts::hold(conn, next)?;
    place.texts.release(conn)?;
    const REPLACE: &str = "UPDATE sessions SET id = :id, user = :user, client = :client, policy = :policy,
        scope = :scope, user_agent = :user_agent, ended = :ended, sweep_day = :sweep_day,
        version = :version, used = :used, used_nonce = :used_nonce, branch = :branch,
        window_at = :window_at, window_from = :window_from, prev_window_at = :prev_window_at,
        prev_window_from = :prev_window_from, renewed_at = :renewed_at,
        idle_expires_at = :idle_expires_at, expires_at = :expires_at, started_at = :started_at,
        key_id = :key_id, acr = :acr, amr = :amr, authenticated_at = :authenticated_at,
        binding = :binding, ip = :ip, ended_at = :ended_at, end_reason = :end_reason,
        cookie_generation = :cookie_generation, cookie_raised_at = :cookie_raised_at,
        cookie_confirmed = :cookie_confirmed, cookie_acr = :cookie_acr, cookie_amr = :cookie_amr,
        cookie_authenticated_at = :cookie_authenticated_at WHERE n = :n";
    write_all(conn, REPLACE, (Some(place.n), user_n, texts), next)?;
    Ok(())
}

/// Binds every column by name: shared by INSERT and the full UPDATE.
fn write_all(
    conn: &Connection,
    sql: &str,
    (n, user_n, texts): (Option<i64>, i64, Texts),
    s: &Session,
) -> rusqlite::Result<usize> {
    let cookie = s.cookie.as_ref();
    conn.prepare_cached(sql)?.execute(named_params! {
        ":n": n,
        ":user": user_n,
        ":id": s.id.as_bytes(),
        ":client": texts.client,
        ":policy": texts.policy,
        ":scope": texts.scope,
        ":user_agent": texts.user_agent,
        ":ended": s.ended.is_some(),
        ":sweep_day": sweep_day(s),
        ":version": s.version,
        ":used": s.rotation.used.cast_signed(),
        ":used_nonce": s.rotation.used_nonce,
        ":branch": s.rotation.branch,
        ":window_at": s.rotation.window_at.millis(),
        ":window_from": s.rotation.window_from.cast_signed(),
        ":prev_window_at": s.rotation.prev_window_at.millis(),
        ":prev_window_from": s.rotation.prev_window_from.cast_signed(),
        ":renewed_at": s.renewed_at.millis(),
        ":idle_expires_at": s.idle_expires_at.millis(),
        ":expires_at": s.expires_at.millis(),
        ":started_at": s.started_at.millis(),
        ":key_id": s.key_id.0,
        ":acr": acr_number(s.strength.acr),
        ":amr": s.strength.amr.bits(),
        ":authenticated_at": s.strength.authenticated_at.millis(),
        ":binding": s.binding,
        ":ip": IpBytes::of(s.ip),
        ":ended_at": s.ended.map(|e| e.at.millis()),
        ":end_reason": s.ended.map(|e| e.reason.as_str()),
        ":cookie_generation": cookie.map(|c| c.generation),
        ":cookie_raised_at": cookie.map(|c| c.raised_at.millis()),
        ":cookie_confirmed": cookie.map(|c| c.confirmed),
        ":cookie_acr": cookie.map(|c| acr_number(c.previous.acr)),
        ":cookie_amr": cookie.map(|c| c.previous.amr.bits()),
        ":cookie_authenticated_at": cookie.map(|c| c.previous.authenticated_at.millis()),
    })
}

impl Texts {
    fn hold(conn: &Connection, session: &Session) -> Result<Self> {
        Ok(Self {
            client: text::hold(conn, session.client_id.as_str())?,
            policy: text::hold(conn, session.policy.as_str())?,
            scope: text::hold(conn, &session.scope.to_string())?,
            user_agent: session.user_agent.as_deref().map(|ua| text::hold(conn, ua)).transpose()?,
        })
    }

    fn release(self, conn: &Connection) -> Result<()> {
        for n in [Some(self.client), Some(self.policy), Some(self.scope), self.user_agent] {
            n.map_or(Ok(()), |n| text::release(conn, n))?;
        }
        Ok(())
    }
}

fn list(
    conn: &Connection,
    caches: &mut Caches,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<SessionRow>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(conn, caches, row)?.0);
    }
    Ok(found)
}

/// The row, the number of its user and that user's edition (none once deleted).
fn read(conn: &Connection, caches: &mut Caches, row: &Row<'_>) -> Result<(SessionRow, i64, Option<Edition>)> {
    let mut c = Columns::of(row);
    let (n, user_n, user_id) = (c.take()?, c.take()?, c.user_id()?);
    let edition = c
        .take::<Option<_>>()?
        .zip(c.time_if_any()?)
        .map(|(version, created_at)| Edition { version, created_at });
    let id = SessionId::from_bytes(c.take()?);
    let texts = Texts { client: c.take()?, policy: c.take()?, scope: c.take()?, user_agent: c.take()? };
    let version = c.take()?;
    let rotation = Rotation {
        used: c.unsigned()?,
        used_nonce: c.take()?,
        branch: c.take()?,
        window_at: c.time()?,
        window_from: c.unsigned()?,
        prev_window_at: c.time()?,
        prev_window_from: c.unsigned()?,
    };
    let (renewed_at, idle_expires_at, expires_at) = (c.time()?, c.time()?, c.time()?);
    let (started_at, key_id) = (c.time()?, KeyId(c.take()?));
    let strength = read_strength(&mut c)?;
    let (binding, ip) = (c.take()?, c.ip()?);
    let ended = match (c.time_if_any()?, c.end_reason()?) {
        (Some(at), Some(reason)) => Some(Ended { at, reason }),
        (None, None) => None,
        _ => return Err(Fail::corrupt("half an end")),
    };
    let cookie = match c.take::<Option<u32>>()? {
        None => None,
        Some(generation) => Some(CookieState {
            generation,
            raised_at: c.time()?,
            confirmed: c.take()?,
            previous: read_strength(&mut c)?,
        }),
    };
    let session = Session {
        id,
        user_id,
        client_id: text::client(conn, caches, texts.client)?,
        policy: text::policy(conn, caches, texts.policy)?,
        scope: text::scope(conn, caches, texts.scope)?,
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
        user_agent: match texts.user_agent {
            Some(n) => Some(text::user_agent(conn, caches, n)?.as_ref().to_owned()),
            None => None,
        },
        ip,
        ended,
    };
    Ok((SessionRow { place: Place { n, texts }, session }, user_n, edition))
}

fn read_strength(c: &mut Columns<'_, '_>) -> Result<Strength> {
    Ok(Strength { acr: c.acr()?, amr: Amr::from_bits(c.take()?), authenticated_at: c.time()? })
}

/// Whether only what [`renew`] writes differs. Taken apart, so that a new member cannot be forgotten.
fn same_but_hot(last: &Session, next: &Session) -> bool {
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
        ended,
    } = next;
    (id, user_id, key_id, started_at) == (&last.id, &last.user_id, &last.key_id, &last.started_at)
        && (strength, cookie, binding, ip, ended)
            == (&last.strength, &last.cookie, &last.binding, &last.ip, &last.ended)
        && (client_id, policy, scope, user_agent)
            == (&last.client_id, &last.policy, &last.scope, &last.user_agent)
}

/// Whether only what [`end`] writes differs.
fn same_but_end(last: &Session, next: &Session) -> bool {
    let unended = Session { ended: last.ended, version: last.version, ..next.clone() };
    unended == *last
}

/// Ids are compared as bytes; no id is smaller than the empty one.
fn after_id(after: &Option<SessionId>) -> &[u8] {
    after.as_ref().map_or(&[], |id| id.as_bytes())
}

pub(in crate::sqlite) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
