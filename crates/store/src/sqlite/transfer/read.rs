//! Records as they lie in the tables: by key, by page, as samples.

use crate::sqlite::cache::Caches;
use crate::sqlite::fail::Fail;
use crate::sqlite::rows::{challenge, client, event, key, session, timeline, user};
use crate::transfer::{
    Batch, Counts, Item, Kind, Page, STAYS, SessionRecord, TransferError, UserRecord, key_use,
};
use reseal_core::client::SecretHash;
use reseal_core::{ClientId, SessionId, UserId};
use rusqlite::{Connection, params};

/// Values that stay in their store are not there for anybody else.
fn meta(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>, TransferError> {
    if STAYS.contains(&name) { Ok(None) } else { super::journal::read_mark(conn, name) }
}

/// Reads one record into the batch.
pub(super) fn read(
    conn: &Connection,
    caches: &mut Caches,
    item: Item,
    batch: &mut Batch,
) -> Result<(), TransferError> {
    let found = match &item {
        Item::Meta(name) => meta(conn, name)?.map(|value| batch.meta.push((name.clone(), value))),
        Item::Client(id) => client::by_id(conn, id)?.map(|client| batch.clients.push(client)),
        Item::Key(key_use) => {
            let record = key::all(conn)?.into_iter().find(|record| record.key_use == *key_use);
            record.map(|record| batch.keys.push(record))
        }
        Item::User(id) => read_user(conn, *id)?.map(|user| batch.users.push(user)),
        Item::Session(id) => {
            let row = session::by_id(conn, caches, *id)?;
            row.map(|row| read_session(conn, row).map(|record| batch.sessions.push(record))).transpose()?
        }
        Item::Challenge(id) => {
            challenge::by_id(conn, &SecretHash(*id))?.map(|challenge| batch.challenges.push(challenge))
        }
        Item::Event(seq) => event::by_seq(conn, *seq)?.map(|event| batch.events.push(event)),
    };
    if found.is_none() {
        batch.gone.push(item);
    }
    Ok(())
}

fn read_user(conn: &Connection, id: UserId) -> Result<Option<UserRecord>, TransferError> {
    if let Some((user, secrets)) = user::with_secrets_by_id(conn, id)? {
        return Ok(Some(UserRecord::Live(Box::new(user), secrets)));
    }
    Ok(user::deleted(conn, id)?.map(UserRecord::Deleted))
}

fn read_session(conn: &Connection, row: session::SessionRow) -> Result<SessionRecord, TransferError> {
    let timeline = timeline::of(conn, row.session.id)?;
    Ok(SessionRecord { session: row.session, timeline })
}

/// Users and sessions are read in the order in which they lie in the file, up to where it ended when the
/// first page was read: what came later is noted.
pub(super) fn page(
    conn: &Connection,
    caches: &mut Caches,
    (kind, after): (Kind, Option<&str>),
    limit: usize,
) -> Result<Page, TransferError> {
    let mut batch = Batch::default();
    let next = match kind {
        Kind::Users => {
            let (first, last) = range(conn, "users", after)?;
            const PAGE: &str = "SELECT n, id FROM users WHERE n > ?1 AND n <= ?2 ORDER BY n LIMIT ?3";
            let mut statement = conn.prepare_cached(PAGE)?;
            let rows = statement.query_map(params![first, last, session::sql_limit(limit)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?))
            })?;
            let mut end = None;
            for row in rows {
                let (n, id) = row?;
                end = Some(n);
                read(conn, caches, Item::User(UserId::from_bytes(id)), &mut batch)?;
            }
            end.filter(|_| batch.len() >= limit).map(|n| format!("{n}/{last}"))
        }
        Kind::Sessions => {
            let (first, last) = range(conn, "sessions", after)?;
            let rows = session::lying_in(conn, caches, (first, last), limit)?;
            let end = rows.last().map(|row| row.place.n);
            for row in rows {
                batch.sessions.push(read_session(conn, row)?);
            }
            end.filter(|_| batch.len() >= limit).map(|n| format!("{n}/{last}"))
        }
        _ => {
            let keys = keys_after(conn, kind, after, limit)?;
            let next = keys.last().filter(|_| keys.len() >= limit).cloned();
            for key in keys {
                read(conn, caches, item_of_key(kind, &key)?, &mut batch)?;
            }
            next
        }
    };
    Ok(Page { batch, next })
}

/// From a place of [`page`]: the number after which to go on, and the last one there was at the start.
fn range(conn: &Connection, table: &str, place: Option<&str>) -> Result<(i64, i64), TransferError> {
    match place {
        None => {
            let sql = format!("SELECT coalesce(max(n), 0) FROM {table}");
            Ok((0, conn.query_row(&sql, [], |row| row.get(0))?))
        }
        Some(place) => {
            let parsed =
                place.split_once('/').and_then(|(n, last)| Some((n.parse().ok()?, last.parse().ok()?)));
            Ok(parsed.ok_or_else(|| Fail::corrupt("the place of a page"))?)
        }
    }
}

/// The keys of a smaller table, as texts in its order.
fn keys_after(
    conn: &Connection,
    kind: Kind,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, TransferError> {
    let sql = match kind {
        Kind::Meta => {
            "SELECT name FROM meta WHERE name > ?1 AND name NOT IN ('migration_source', 'migration_target', 'check')
            ORDER BY name LIMIT ?2"
        }
        Kind::Clients => "SELECT id FROM clients WHERE id > ?1 ORDER BY id LIMIT ?2",
        Kind::Keys => "SELECT name FROM keys WHERE name > ?1 ORDER BY name LIMIT ?2",
        Kind::Challenges => {
            "SELECT lower(hex(id)) FROM challenges WHERE id > coalesce(unhex(?1), x'') ORDER BY id LIMIT ?2"
        }
        _ => "SELECT CAST(seq AS TEXT) FROM events WHERE seq > CAST(?1 AS INTEGER) ORDER BY seq LIMIT ?2",
    };
    let mut statement = conn.prepare_cached(sql)?;
    let keys = statement
        .query_map(params![after.unwrap_or(""), session::sql_limit(limit)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(keys)
}

fn item_of_key(kind: Kind, key: &str) -> Result<Item, TransferError> {
    let item = match kind {
        Kind::Meta => Some(Item::Meta(key.to_owned())),
        Kind::Clients => key.parse::<ClientId>().ok().map(Item::Client),
        Kind::Keys => key_use(key).map(Item::Key),
        Kind::Events => key.parse().ok().map(Item::Event),
        _ => Item::challenge_from_hex(key),
    };
    Ok(item.ok_or_else(|| Fail::corrupt(format!("a key of {}", kind.name())))?)
}

pub(super) fn sample(
    conn: &Connection,
    (kind, place): (Kind, u64),
    limit: usize,
) -> Result<Vec<Item>, TransferError> {
    let table = match kind {
        Kind::Users => "users",
        Kind::Sessions => "sessions",
        _ => {
            let all = count(conn, of_kind(kind))?;
            let from = usize::try_from(place.checked_rem(all).unwrap_or(0)).unwrap_or(0);
            // These tables are small.
            let keys = keys_after(conn, kind, None, from.saturating_add(limit))?;
            return keys.iter().skip(from).map(|key| item_of_key(kind, key)).collect();
        }
    };
    let last = count(conn, &format!("SELECT coalesce(max(n), 0) FROM {table}"))?;
    let from = place.checked_rem(last.saturating_add(1)).unwrap_or(0);
    let sql = format!("SELECT id FROM {table} WHERE n >= ?1 ORDER BY n LIMIT ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let ids = statement
        .query_map(params![from.cast_signed(), session::sql_limit(limit)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<[u8; 16]>>>()?;
    let item = |id| match kind {
        Kind::Users => Item::User(UserId::from_bytes(id)),
        _ => Item::Session(SessionId::from_bytes(id)),
    };
    Ok(ids.into_iter().map(item).collect())
}

const fn of_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Meta => {
            "SELECT count(*) FROM meta WHERE name NOT IN ('migration_source', 'migration_target', 'check')"
        }
        Kind::Clients => "SELECT count(*) FROM clients",
        Kind::Keys => "SELECT count(*) FROM keys",
        Kind::Users => "SELECT count(*) FROM users",
        Kind::Sessions => "SELECT count(*) FROM sessions",
        Kind::Challenges => "SELECT count(*) FROM challenges",
        Kind::Events => "SELECT count(*) FROM events",
    }
}

pub(super) fn counts(conn: &Connection) -> Result<Counts, TransferError> {
    let of = |kind| count(conn, of_kind(kind));
    Ok(Counts {
        meta: of(Kind::Meta)?,
        clients: of(Kind::Clients)?,
        keys: of(Kind::Keys)?,
        users: of(Kind::Users)?,
        sessions: of(Kind::Sessions)?,
        timeline: count(conn, "SELECT count(*) FROM timeline")?,
        challenges: of(Kind::Challenges)?,
        events: of(Kind::Events)?,
        last_event: event::last(conn)?,
    })
}

pub(super) fn count(conn: &Connection, sql: &str) -> Result<u64, TransferError> {
    Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
}
