//! Records on their way into the tables: a statement per table and batch.

use super::journal;
use crate::postgres::fail::Result;
use crate::postgres::known::Numbers;
use crate::postgres::pool::{Client, Param};
use crate::postgres::rows::event::EventColumns;
use crate::postgres::rows::session::sweep_day;
use crate::postgres::rows::user::profile;
use crate::postgres::rows::{acr_number, challenge, client, ip_bytes, key, uuid};
use crate::transfer::{Batch, Item, SessionRecord, UserRecord, key_name};
use reseal_core::Session;
use reseal_core::event::LoggedEvent;
use reseal_core::session::CookieState;
use reseal_core::user::username_key;
use uuid::Uuid;

/// Texts stay: their numbers may be known.
pub(super) const CLEAR: &str = "TRUNCATE timeline, sessions, users, clients, challenges, keys, events, meta;
    UPDATE log_head SET seq = 0 WHERE one = 1";

/// Writes a batch: first what is gone, children before parents, then what is there, parents first.
pub(super) async fn batch(client: &Client, batch: &Batch, numbers: &[Numbers]) -> Result<()> {
    if !batch.gone.is_empty() {
        remove(client, &batch.gone).await?;
    }
    for (name, value) in &batch.meta {
        journal::put_mark(client, name, value.clone()).await?;
    }
    for record in &batch.clients {
        client::delete(client, &record.id).await?;
        client::insert(client, record).await?;
    }
    for record in &batch.keys {
        key::delete(client, &record.key_use).await?;
        key::put(client, record).await?;
    }
    if !batch.users.is_empty() {
        put_users(client, &batch.users).await?;
    }
    if !batch.sessions.is_empty() {
        put_sessions(client, &batch.sessions, numbers).await?;
        put_timelines(client, &batch.sessions).await?;
    }
    for record in &batch.challenges {
        client.execute(REMOVE_CHALLENGES, &[&vec![&record.id.0[..]]]).await?;
        challenge::insert(client, record).await?;
    }
    if !batch.events.is_empty() {
        put_events(client, &batch.events).await?;
    }
    Ok(())
}

const REMOVE_CHALLENGES: &str = "DELETE FROM challenges WHERE id = ANY ($1)";

async fn remove(client: &Client, gone: &[Item]) -> Result<()> {
    let (mut users, mut sessions, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let (mut clients, mut names, mut keys, mut challenges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for item in gone {
        match item {
            Item::User(id) => users.push(uuid(*id.as_bytes())),
            Item::Session(id) => sessions.push(uuid(*id.as_bytes())),
            Item::Event(seq) => events.push(seq.cast_signed()),
            Item::Client(id) => clients.push(id.as_str()),
            Item::Meta(name) => names.push(&**name),
            Item::Key(key_use) => keys.push(key_name(key_use)),
            Item::Challenge(id) => challenges.push(&id[..]),
        }
    }
    if !users.is_empty() {
        const OF_USERS: &str =
            "SELECT id FROM sessions WHERE user_n IN (SELECT n FROM users WHERE id = ANY ($1))";
        for row in client.query(OF_USERS, &[&users]).await? {
            sessions.push(row.try_get::<_, Uuid>(0)?);
        }
    }
    client.execute("DELETE FROM timeline WHERE session = ANY ($1)", &[&sessions]).await?;
    client.execute("DELETE FROM sessions WHERE id = ANY ($1)", &[&sessions]).await?;
    client.execute("DELETE FROM users WHERE id = ANY ($1)", &[&users]).await?;
    client.execute("DELETE FROM clients WHERE id = ANY ($1)", &[&clients]).await?;
    client.execute("DELETE FROM meta WHERE name = ANY ($1)", &[&names]).await?;
    client.execute("DELETE FROM keys WHERE name = ANY ($1)", &[&keys]).await?;
    client.execute(REMOVE_CHALLENGES, &[&challenges]).await?;
    client.execute("DELETE FROM events WHERE seq = ANY ($1)", &[&events]).await?;
    Ok(())
}

/// Whoever else has one of the names loses it first: that is a row of before, about to be written as well.
async fn put_users(client: &Client, users: &[UserRecord]) -> Result<()> {
    const FREE: &str = "UPDATE users SET username_key = NULL WHERE username_key = ANY ($1)";
    const PUT: &str = "INSERT INTO users (id, version, auth_epoch, disabled, revision, username_key, username,
            created_at, updated_at, profile, password, recovery_codes)
        SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::boolean[], $5::bigint[], $6::text[],
            $7::text[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::bytea[])
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, auth_epoch = excluded.auth_epoch,
            disabled = excluded.disabled, revision = excluded.revision, username_key = excluded.username_key,
            username = excluded.username, created_at = excluded.created_at, updated_at = excluded.updated_at,
            profile = excluded.profile, password = excluded.password, recovery_codes = excluded.recovery_codes";
    let live = |record: &UserRecord| match record {
        UserRecord::Live(user, secrets) => Some((user.clone(), secrets.clone())),
        UserRecord::Deleted(_) => None,
    };
    let all: Vec<_> = users.iter().map(|record| (record, live(record))).collect();
    let ids: Vec<Uuid> = users.iter().map(|record| uuid(*record.id().as_bytes())).collect();
    let version: Vec<Option<i32>> =
        all.iter().map(|(_, l)| l.as_ref().map(|(u, _)| u.version.cast_signed())).collect();
    let (mut auth_epoch, mut revision, mut updated_at) = (Vec::new(), Vec::new(), Vec::new());
    for record in users {
        let (epoch, rev, at) = match record {
            UserRecord::Live(user, _) => (user.auth_epoch, user.revision, user.updated_at),
            UserRecord::Deleted(deleted) => (deleted.auth_epoch, deleted.revision, deleted.deleted_at),
        };
        auth_epoch.push(epoch.cast_signed());
        revision.push(rev.cast_signed());
        updated_at.push(at.millis());
    }
    let disabled: Vec<Option<bool>> = all.iter().map(|(_, l)| l.as_ref().map(|(u, _)| u.disabled)).collect();
    let username: Vec<Option<&str>> =
        all.iter().map(|(_, l)| l.as_ref().map(|(u, _)| &*u.username)).collect();
    let username_key: Vec<Option<String>> = username.iter().map(|name| name.map(username_key)).collect();
    let created_at: Vec<Option<i64>> =
        all.iter().map(|(_, l)| l.as_ref().map(|(u, _)| u.created_at.millis())).collect();
    let profiles: Vec<Option<String>> =
        all.iter().map(|(_, l)| l.as_ref().map(|(u, _)| profile(u))).collect();
    let password: Vec<Option<&str>> =
        all.iter().map(|(_, l)| l.as_ref().and_then(|(_, s)| s.password.as_deref())).collect();
    let codes: Vec<Vec<u8>> = all
        .iter()
        .map(|(_, l)| l.as_ref().map(|(_, s)| s.recovery_codes.concat()).unwrap_or_default())
        .collect();
    let taken: Vec<&String> = username_key.iter().flatten().collect();
    client.execute(FREE, &[&taken]).await?;
    let params: [Param<'_>; 12] = [
        &ids,
        &version,
        &auth_epoch,
        &disabled,
        &revision,
        &username_key,
        &username,
        &created_at,
        &updated_at,
        &profiles,
        &password,
        &codes,
    ];
    client.execute(PUT, &params).await.map(drop)
}

async fn put_sessions(client: &Client, records: &[SessionRecord], numbers: &[Numbers]) -> Result<()> {
    // A user who came while users were copied: the note of that follows, and fills the row.
    const USERS: &str = "INSERT INTO users (id) SELECT DISTINCT x FROM unnest($1::uuid[]) AS x
        WHERE NOT EXISTS (SELECT 1 FROM users WHERE id = x) ON CONFLICT (id) DO NOTHING";
    const PUT: &str = "INSERT INTO sessions (id, user_n, client, policy, scope, user_agent, ended, sweep_day, version,
            used, used_nonce, branch, window_at, window_from, prev_window_at, prev_window_from, renewed_at,
            idle_expires_at, expires_at, started_at, key_id, acr, amr, authenticated_at, binding, ip, ended_at,
            end_reason, cookie_generation, cookie_raised_at, cookie_confirmed, cookie_acr, cookie_amr,
            cookie_authenticated_at)
        SELECT x.id, u.n, x.client, x.policy, x.scope, x.user_agent, x.ended, x.sweep_day, x.version, x.used,
            x.used_nonce, x.branch, x.window_at, x.window_from, x.prev_window_at, x.prev_window_from, x.renewed_at,
            x.idle_expires_at, x.expires_at, x.started_at, x.key_id, x.acr, x.amr, x.authenticated_at, x.binding,
            x.ip, x.ended_at, x.end_reason, x.cookie_generation, x.cookie_raised_at, x.cookie_confirmed,
            x.cookie_acr, x.cookie_amr, x.cookie_authenticated_at
        FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::integer[], $6::integer[],
            $7::boolean[], $8::integer[], $9::integer[], $10::bigint[], $11::uuid[], $12::integer[], $13::bigint[],
            $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
            $20::bigint[], $21::integer[], $22::smallint[], $23::integer[], $24::bigint[], $25::bytea[],
            $26::bytea[], $27::bigint[], $28::text[], $29::integer[], $30::bigint[], $31::boolean[],
            $32::smallint[], $33::integer[], $34::bigint[])
            AS x (id, user_id, client, policy, scope, user_agent, ended, sweep_day, version, used, used_nonce,
            branch, window_at, window_from, prev_window_at, prev_window_from, renewed_at, idle_expires_at,
            expires_at, started_at, key_id, acr, amr, authenticated_at, binding, ip, ended_at, end_reason,
            cookie_generation, cookie_raised_at, cookie_confirmed, cookie_acr, cookie_amr,
            cookie_authenticated_at)
        JOIN users u ON u.id = x.user_id
        ON CONFLICT (id) DO UPDATE SET user_n = excluded.user_n, client = excluded.client,
            policy = excluded.policy, scope = excluded.scope, user_agent = excluded.user_agent,
            ended = excluded.ended, sweep_day = excluded.sweep_day, version = excluded.version,
            used = excluded.used, used_nonce = excluded.used_nonce, branch = excluded.branch,
            window_at = excluded.window_at, window_from = excluded.window_from,
            prev_window_at = excluded.prev_window_at, prev_window_from = excluded.prev_window_from,
            renewed_at = excluded.renewed_at, idle_expires_at = excluded.idle_expires_at,
            expires_at = excluded.expires_at, started_at = excluded.started_at, key_id = excluded.key_id,
            acr = excluded.acr, amr = excluded.amr, authenticated_at = excluded.authenticated_at,
            binding = excluded.binding, ip = excluded.ip, ended_at = excluded.ended_at,
            end_reason = excluded.end_reason, cookie_generation = excluded.cookie_generation,
            cookie_raised_at = excluded.cookie_raised_at, cookie_confirmed = excluded.cookie_confirmed,
            cookie_acr = excluded.cookie_acr, cookie_amr = excluded.cookie_amr,
            cookie_authenticated_at = excluded.cookie_authenticated_at";
    let all = Columns { records, numbers };
    let users = all.each(|s| uuid(*s.user_id.as_bytes()));
    client.execute(USERS, &[&users]).await?;
    let params: [Param<'_>; 34] = [
        &all.each(|s| uuid(*s.id.as_bytes())),
        &users,
        &all.number(|n| n.client),
        &all.number(|n| n.policy),
        &all.number(|n| n.scope),
        &all.number(|n| n.user_agent),
        &all.each(|s| s.ended.is_some()),
        &all.each(sweep_day),
        &all.each(|s| s.version.cast_signed()),
        &all.each(|s| s.rotation.used.cast_signed()),
        &all.each(|s| uuid(s.rotation.used_nonce)),
        &all.each(|s| s.rotation.branch.cast_signed()),
        &all.each(|s| s.rotation.window_at.millis()),
        &all.each(|s| s.rotation.window_from.cast_signed()),
        &all.each(|s| s.rotation.prev_window_at.millis()),
        &all.each(|s| s.rotation.prev_window_from.cast_signed()),
        &all.each(|s| s.renewed_at.millis()),
        &all.each(|s| s.idle_expires_at.millis()),
        &all.each(|s| s.expires_at.millis()),
        &all.each(|s| s.started_at.millis()),
        &all.each(|s| s.key_id.0.cast_signed()),
        &all.each(|s| acr_number(s.strength.acr)),
        &all.each(|s| s.strength.amr.bits().cast_signed()),
        &all.each(|s| s.strength.authenticated_at.millis()),
        &all.each(|s| s.binding.map(|b| b.to_vec())),
        &all.each(|s| ip_bytes(s.ip)),
        &all.each(|s| s.ended.map(|e| e.at.millis())),
        &all.each(|s| s.ended.map(|e| e.reason.as_str())),
        &all.cookie(|c| c.generation.cast_signed()),
        &all.cookie(|c| c.raised_at.millis()),
        &all.cookie(|c| c.confirmed),
        &all.cookie(|c| acr_number(c.previous.acr)),
        &all.cookie(|c| c.previous.amr.bits().cast_signed()),
        &all.cookie(|c| c.previous.authenticated_at.millis()),
    ];
    client.execute(PUT, &params).await.map(drop)
}

/// The columns of a batch of sessions.
struct Columns<'a> {
    records: &'a [SessionRecord],
    numbers: &'a [Numbers],
}

impl Columns<'_> {
    fn each<T>(&self, of: impl Fn(&Session) -> T) -> Vec<T> {
        self.records.iter().map(|record| of(&record.session)).collect()
    }

    fn number<T>(&self, of: impl Fn(&Numbers) -> T) -> Vec<T> {
        self.numbers.iter().map(of).collect()
    }

    fn cookie<T>(&self, of: impl Fn(&CookieState) -> T) -> Vec<Option<T>> {
        self.each(|session| session.cookie.as_ref().map(&of))
    }
}

async fn put_timelines(client: &Client, records: &[SessionRecord]) -> Result<()> {
    const CLEAR: &str = "DELETE FROM timeline WHERE session = ANY ($1)";
    const PUT: &str = "INSERT INTO timeline (session, i, at, kind, reason, ip)
        SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::bytea[])";
    let ids: Vec<Uuid> = records.iter().map(|record| uuid(*record.session.id.as_bytes())).collect();
    client.execute(CLEAR, &[&ids]).await?;
    let (mut session, mut i, mut at) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kind, mut reason, mut ip) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        for (number, line) in (0_i16..).zip(&record.timeline) {
            session.push(uuid(*record.session.id.as_bytes()));
            i.push(number);
            at.push(line.at.millis());
            kind.push(line.kind.as_str());
            reason.push(line.kind.reason().map(|r| r.as_str()));
            ip.push(ip_bytes(line.ip));
        }
    }
    let params: [Param<'_>; 6] = [&session, &i, &at, &kind, &reason, &ip];
    client.execute(PUT, &params).await.map(drop)
}

async fn put_events(client: &Client, events: &[LoggedEvent]) -> Result<()> {
    const PUT: &str =
        "INSERT INTO events (seq, until, kind, sid, sub, client_id, before, rev, reason, withdrawn)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::uuid[], $5::uuid[], $6::text[],
            $7::bigint[], $8::bigint[], $9::text[], $10::text[])
        ON CONFLICT (seq) DO NOTHING";
    let mut c = EventColumns::default();
    for logged in events {
        c.push(&logged.event)?;
    }
    let seq: Vec<i64> = events.iter().map(|logged| logged.seq.cast_signed()).collect();
    let params: [Param<'_>; 10] =
        [&seq, &c.until, &c.kind, &c.sid, &c.sub, &c.client, &c.before, &c.rev, &c.reason, &c.withdrawn];
    client.execute(PUT, &params).await.map(drop)
}
