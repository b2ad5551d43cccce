//! Records as they lie in the tables: by key, by page, as samples.

use super::journal;
use crate::postgres::fail::{Fail, Result};
use crate::postgres::known::Known;
use crate::postgres::pool::Client;
use crate::postgres::rows::session::{SessionRow, session_columns};
use crate::postgres::rows::user::user_columns;
use crate::postgres::rows::{Columns, challenge, client, event, key, session, sql_limit, user, uuid};
use crate::transfer::{
    Batch, Counts, DeletedUser, Item, Kind, Page, STAYS, SessionRecord, UserRecord, key_use,
};
use reseal_core::client::SecretHash;
use reseal_core::{ClientId, SessionId, TimelineEntry, TimelineKind, UserId};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// All these records, each once; those that are not there in `gone`.
pub(super) async fn items(client: &Client, known: &Known, items: &[Item]) -> Result<Batch> {
    let mut batch = Batch::default();
    let (mut user_ids, mut session_ids) = (Vec::new(), Vec::new());
    let mut keys: Option<Vec<_>> = None;
    for item in items {
        let found = match item {
            Item::Meta(name) if STAYS.contains(&&**name) => None,
            Item::Meta(name) => {
                journal::read_mark(client, name).await?.map(|value| batch.meta.push((name.clone(), value)))
            }
            Item::Client(id) => client::by_id(client, id.clone()).await?.map(|c| batch.clients.push(c)),
            Item::Key(key_use) => {
                if keys.is_none() {
                    keys = Some(key::all(client).await?);
                }
                let record = keys.iter().flatten().find(|record| record.key_use == *key_use).cloned();
                record.map(|record| batch.keys.push(record))
            }
            Item::User(id) => {
                user_ids.push(uuid(*id.as_bytes()));
                continue;
            }
            Item::Session(id) => {
                session_ids.push(uuid(*id.as_bytes()));
                continue;
            }
            Item::Challenge(id) => {
                challenge::by_id(client, SecretHash(*id)).await?.map(|found| batch.challenges.push(found))
            }
            Item::Event(seq) => {
                let found = event::after(client, seq.saturating_sub(1), 1).await?.pop();
                found.filter(|event| event.seq == *seq).map(|event| batch.events.push(event))
            }
        };
        if found.is_none() {
            batch.gone.push(item.clone());
        }
    }
    if !user_ids.is_empty() {
        batch.users = users(client, &user_ids).await?;
        let found: HashSet<UserId> = batch.users.iter().map(UserRecord::id).collect();
        let asked = user_ids.iter().map(|id| UserId::from_bytes(id.into_bytes()));
        batch.gone.extend(asked.filter(|id| !found.contains(id)).map(Item::User));
    }
    if !session_ids.is_empty() {
        const MANY: &str = concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions s JOIN users u ON u.n = s.user_n WHERE s.id = ANY ($1)"
        );
        let rows = session::list(client, known, MANY, &[&session_ids]).await?;
        batch.sessions = with_timelines(client, rows).await?;
        let found: HashSet<SessionId> = batch.sessions.iter().map(|s| s.session.id).collect();
        let asked = session_ids.iter().map(|id| SessionId::from_bytes(id.into_bytes()));
        batch.gone.extend(asked.filter(|id| !found.contains(id)).map(Item::Session));
    }
    Ok(batch)
}

async fn users(client: &Client, ids: &[Uuid]) -> Result<Vec<UserRecord>> {
    const LIVE: &str = concat!(
        "SELECT ",
        user_columns!(),
        ", u.password, u.recovery_codes FROM users u WHERE u.id = ANY ($1) AND u.version IS NOT NULL"
    );
    const DELETED: &str = "SELECT id, coalesce(auth_epoch, 0), coalesce(revision, 0), coalesce(updated_at, 0)
        FROM users WHERE id = ANY ($1) AND version IS NULL";
    let mut found = Vec::with_capacity(ids.len());
    for row in client.query(LIVE, &[&ids]).await? {
        let (user, secrets) = user::read_with_secrets(&row)?;
        found.push(UserRecord::Live(Box::new(user), secrets));
    }
    for row in client.query(DELETED, &[&ids]).await? {
        let mut c = Columns::of(&row);
        let (id, auth_epoch, revision) = (c.user_id()?, c.u64()?, c.u64()?);
        found.push(UserRecord::Deleted(DeletedUser { id, auth_epoch, revision, deleted_at: c.time()? }));
    }
    Ok(found)
}

async fn with_timelines(client: &Client, rows: Vec<SessionRow>) -> Result<Vec<SessionRecord>> {
    const LINES: &str = "SELECT session, at, kind, reason, ip FROM timeline WHERE session = ANY ($1)
        ORDER BY session, i";
    let ids: Vec<Uuid> = rows.iter().map(|row| uuid(*row.session.id.as_bytes())).collect();
    let mut lines: HashMap<SessionId, Vec<TimelineEntry>> = HashMap::new();
    for row in client.query(LINES, &[&ids]).await? {
        let mut c = Columns::of(&row);
        let session_id = SessionId::from_bytes(c.bytes16()?);
        let (at, kind) = (c.time()?, c.take::<&str>()?);
        let kind = TimelineKind::from_parts(kind, c.end_reason()?)
            .ok_or_else(|| Fail::corrupt(format!("a line of the timeline: {kind:?}")))?;
        lines.entry(session_id).or_default().push(TimelineEntry { session_id, at, kind, ip: c.ip()? });
    }
    let record = |row: SessionRow| {
        let timeline = lines.remove(&row.session.id).unwrap_or_default();
        SessionRecord { session: row.session, timeline }
    };
    Ok(rows.into_iter().map(record).collect())
}

/// Sessions come in the order of their ids, users in the order in which they were made, up to the last one there
/// was when the first page was read: what came later is noted.
pub(super) async fn page(
    client: &Client,
    known: &Known,
    (kind, after): (Kind, Option<&str>),
    limit: usize,
) -> Result<Page> {
    let rows = sql_limit(limit);
    match kind {
        Kind::Users => {
            let (first, last) = range(client, after).await?;
            const PAGE: &str = "SELECT n, id FROM users WHERE n > $1 AND n <= $2 ORDER BY n LIMIT $3";
            let found = client.query(PAGE, &[&first, &last, &rows]).await?;
            let (mut ids, mut end) = (Vec::with_capacity(found.len()), None);
            for row in &found {
                let mut c = Columns::of(row);
                end = Some(c.take::<i64>()?);
                ids.push(c.take::<Uuid>()?);
            }
            let next = end.filter(|_| ids.len() >= limit).map(|n| format!("{n}/{last}"));
            Ok(Page { batch: Batch { users: users(client, &ids).await?, ..Batch::default() }, next })
        }
        Kind::Sessions => {
            const PAGE: &str = concat!(
                "SELECT ",
                session_columns!(),
                " FROM sessions s JOIN users u ON u.n = s.user_n WHERE s.id >= $1 AND ($2 OR s.id > $1)
                ORDER BY s.id LIMIT $3"
            );
            let place = after.map(str::parse::<Uuid>).transpose();
            let place = place.map_err(|_| Fail::corrupt("the place of a page"))?;
            let found =
                session::list(client, known, PAGE, &[&place.unwrap_or_default(), &place.is_none(), &rows])
                    .await?;
            let end = found.last().map(|row| uuid(*row.session.id.as_bytes()).to_string());
            let next = end.filter(|_| found.len() >= limit);
            let sessions = with_timelines(client, found).await?;
            Ok(Page { batch: Batch { sessions, ..Batch::default() }, next })
        }
        _ => {
            let found = keys_after(client, kind, after, limit).await?;
            let next = found.last().filter(|_| found.len() >= limit).cloned();
            let wanted = found.iter().map(|key| item_of_key(kind, key)).collect::<Result<Vec<Item>>>()?;
            Ok(Page { batch: items(client, known, &wanted).await?, next })
        }
    }
}

async fn range(client: &Client, place: Option<&str>) -> Result<(i64, i64)> {
    let Some(place) = place else {
        let row = client.query_opt("SELECT coalesce(max(n), 0) FROM users", &[]).await?;
        return Ok((0, row.map_or(Ok(0), |row| Columns::of(&row).take())?));
    };
    let parsed = place.split_once('/').and_then(|(n, last)| Some((n.parse().ok()?, last.parse().ok()?)));
    parsed.ok_or_else(|| Fail::corrupt("the place of a page"))
}

/// The keys of a smaller table, as texts in its order.
async fn keys_after(client: &Client, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
    const META: &str = "SELECT name FROM meta WHERE name > $1
        AND name NOT IN ('migration_source', 'migration_target', 'check') ORDER BY name LIMIT $2";
    const CHALLENGES: &str = "SELECT encode(id, 'hex') FROM challenges WHERE id > decode($1, 'hex')
        ORDER BY id LIMIT $2";
    let sql = match kind {
        Kind::Meta => META,
        Kind::Clients => "SELECT id FROM clients WHERE id > $1 ORDER BY id LIMIT $2",
        Kind::Keys => "SELECT name FROM keys WHERE name > $1 ORDER BY name LIMIT $2",
        Kind::Challenges => CHALLENGES,
        _ => {
            "SELECT seq::text FROM events WHERE seq > coalesce(nullif($1, ''), '0')::bigint ORDER BY events.seq LIMIT $2"
        }
    };
    let rows = client.query(sql, &[&after.unwrap_or(""), &sql_limit(limit)]).await?;
    rows.iter().map(|row| Columns::of(row).take()).collect()
}

fn item_of_key(kind: Kind, key: &str) -> Result<Item> {
    let item = match kind {
        Kind::Meta => Some(Item::Meta(key.to_owned())),
        Kind::Clients => key.parse::<ClientId>().ok().map(Item::Client),
        Kind::Keys => key_use(key).map(Item::Key),
        Kind::Events => key.parse().ok().map(Item::Event),
        _ => Item::challenge_from_hex(key),
    };
    item.ok_or_else(|| Fail::corrupt(format!("a key of {}", kind.name())))
}

pub(super) async fn sample(client: &Client, (kind, place): (Kind, u64), limit: usize) -> Result<Vec<Item>> {
    match kind {
        Kind::Users => {
            let last = count(client, "SELECT coalesce(max(n), 0) FROM users").await?;
            let from = place.checked_rem(last.saturating_add(1)).unwrap_or(0).cast_signed();
            const SOME: &str = "SELECT id FROM users WHERE n >= $1 ORDER BY n LIMIT $2";
            let rows = client.query(SOME, &[&from, &sql_limit(limit)]).await?;
            rows.iter().map(|row| Ok(Item::User(Columns::of(row).user_id()?))).collect()
        }
        Kind::Sessions => {
            // Ids are random.
            let from = Uuid::from_u128(u128::from(place) << 64);
            const SOME: &str = "SELECT id FROM sessions WHERE id >= $1 ORDER BY id LIMIT $2";
            let rows = client.query(SOME, &[&from, &sql_limit(limit)]).await?;
            rows.iter()
                .map(|row| Ok(Item::Session(SessionId::from_bytes(Columns::of(row).bytes16()?))))
                .collect()
        }
        _ => {
            let all = count(client, of_kind(kind)).await?;
            let from = usize::try_from(place.checked_rem(all).unwrap_or(0)).unwrap_or(0);
            // These tables are small.
            let keys = keys_after(client, kind, None, from.saturating_add(limit)).await?;
            keys.iter().skip(from).map(|key| item_of_key(kind, key)).collect()
        }
    }
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

pub(super) async fn counts(client: &Client) -> Result<Counts> {
    Ok(Counts {
        meta: count(client, of_kind(Kind::Meta)).await?,
        clients: count(client, of_kind(Kind::Clients)).await?,
        keys: count(client, of_kind(Kind::Keys)).await?,
        users: count(client, of_kind(Kind::Users)).await?,
        sessions: count(client, of_kind(Kind::Sessions)).await?,
        timeline: count(client, "SELECT count(*) FROM timeline").await?,
        challenges: count(client, of_kind(Kind::Challenges)).await?,
        events: count(client, of_kind(Kind::Events)).await?,
        last_event: event::last(client).await?,
    })
}

pub(super) async fn count(client: &Client, sql: &'static str) -> Result<u64> {
    let row = client.query_opt(sql, &[]).await?;
    row.map_or(Ok(0), |row| Columns::of(&row).u64())
}
