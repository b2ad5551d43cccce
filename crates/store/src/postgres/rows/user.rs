//! Users and their secrets.

use super::{Columns, sql_limit, uuid};
use crate::Conflict;
use crate::cache::Caches;
use crate::postgres::fail::{self, Fail, Result};
use crate::postgres::pool::{Client, Param};
use reseal_core::user::{UserSecrets, username_key};
use reseal_core::{Timestamp, User, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// What a token may show of the user, as JSON: read whole, searched never.
#[derive(Serialize, Deserialize)]
struct Profile<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    email: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    phone_number: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    phone_number_verified: bool,
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    roles: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: Cow<'a, BTreeMap<String, Value>>,
}

/// The columns of a user, in the order of [`read`].
macro_rules! user_columns {
    () => {
        "u.id, u.version, u.created_at, u.updated_at, u.auth_epoch, u.disabled, u.revision, u.username, u.profile"
    };
}
pub(in crate::postgres) use user_columns;

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", user_columns!(), " FROM users u ", $rest)
    };
    (secrets $rest:literal) => {
        concat!("SELECT ", user_columns!(), ", u.password, u.recovery_codes FROM users u ", $rest)
    };
}

/// The user in these columns, parsed at most once as long as it is cached. An id may come again once its user is
/// forgotten, and a server may forget its last commits: so more than the version must agree.
pub(in crate::postgres) fn cached(c: &mut Columns<'_>, caches: &mut Caches) -> Result<Arc<User>> {
    let head = head(c)?;
    if let Some(user) = caches.users.find(head.id)
        && (user.version, user.created_at, user.updated_at)
            == (head.version, head.created_at, head.updated_at)
    {
        return Ok(user);
    }
    let (user, bytes) = rest(head, c)?;
    let user = Arc::new(user);
    caches.users.insert(user.id, Arc::clone(&user), 3 * bytes + 512);
    Ok(user)
}

/// The number of a user, deleted ones included.
pub(in crate::postgres) async fn number(client: &Client, id: UserId) -> Result<Option<i64>> {
    let row = client.query_opt("SELECT n FROM users WHERE id = $1", &[&uuid(*id.as_bytes())]).await?;
    row.map(|row| Columns::of(&row).take()).transpose()
}

/// Locks users until the end of the transaction, in the order of their ids: whoever starts or ends sessions of
/// theirs meanwhile waits.
pub(in crate::postgres) async fn lock(client: &Client, ids: &[Uuid]) -> Result<()> {
    const LOCK: &str = "SELECT 1 FROM users WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE";
    client.query(LOCK, &[&ids]).await.map(drop)
}

/// What a login must find unchanged.
pub(in crate::postgres) struct LoginState {
    pub(in crate::postgres) n: i64,
    pub(in crate::postgres) auth_epoch: u64,
    pub(in crate::postgres) disabled: bool,
}

pub(in crate::postgres) async fn login_state(client: &Client, id: UserId) -> Result<Option<LoginState>> {
    const STATE: &str = "SELECT n, auth_epoch, disabled FROM users WHERE id = $1 AND version IS NOT NULL";
    let row = client.query_opt(STATE, &[&uuid(*id.as_bytes())]).await?;
    let read = |row| {
        let mut c = Columns::of(&row);
        Ok(LoginState { n: c.take()?, auth_epoch: c.u64()?, disabled: c.take()? })
    };
    row.map(read).transpose()
}

pub(in crate::postgres) async fn by_id(client: &Client, id: UserId) -> Result<Option<User>> {
    let sql = select!("WHERE u.id = $1 AND u.version IS NOT NULL");
    client.query_opt(sql, &[&uuid(*id.as_bytes())]).await?.as_ref().map(read).transpose()
}

pub(in crate::postgres) async fn by_ids(client: &Client, ids: &[Uuid]) -> Result<Vec<User>> {
    let sql = select!("WHERE u.id = ANY ($1) AND u.version IS NOT NULL");
    client.query(sql, &[&ids]).await?.iter().map(read).collect()
}

pub(in crate::postgres) async fn page(
    client: &Client,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<User>> {
    let after = after.map(|id| uuid(*id.as_bytes()));
    let sql =
        select!("WHERE ($1::uuid IS NULL OR u.id > $1) AND u.version IS NOT NULL ORDER BY u.id LIMIT $2");
    let from_there = select!("WHERE u.id > $1 AND u.version IS NOT NULL ORDER BY u.id LIMIT $2");
    let sql = if after.is_some() { from_there } else { sql };
    client.query(sql, &[&after, &sql_limit(limit)]).await?.iter().map(read).collect()
}

pub(in crate::postgres) async fn with_secrets_by_id(
    client: &Client,
    id: UserId,
) -> Result<Option<(User, UserSecrets)>> {
    let sql = select!(secrets "WHERE u.id = $1 AND u.version IS NOT NULL");
    client.query_opt(sql, &[&uuid(*id.as_bytes())]).await?.as_ref().map(read_with_secrets).transpose()
}

pub(in crate::postgres) async fn with_secrets_by_username(
    client: &Client,
    username: String,
) -> Result<Option<(User, UserSecrets)>> {
    // What somebody types in comes here as it is, and the server takes no text with a NUL in it.
    if username.contains('\0') {
        return Ok(None);
    }
    let sql = select!(secrets "WHERE u.username_key = $1");
    client.query_opt(sql, &[&username_key(&username)]).await?.as_ref().map(read_with_secrets).transpose()
}

/// Inserts the record, or puts it in the place of a deleted user of that id, above its revision and epoch.
pub(in crate::postgres) async fn insert(client: &Client, user: &User, secrets: &UserSecrets) -> Result<()> {
    const INSERT: &str = "INSERT INTO users (id, version, auth_epoch, disabled, revision, username_key,
        username, created_at, updated_at, profile, password, recovery_codes)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, disabled = excluded.disabled,
        auth_epoch = CASE WHEN users.auth_epoch IS NULL OR excluded.auth_epoch > users.auth_epoch
            THEN excluded.auth_epoch ELSE users.auth_epoch + 1 END,
        revision = CASE WHEN users.revision IS NULL OR excluded.revision > users.revision
            THEN excluded.revision ELSE users.revision + 1 END,
        username_key = excluded.username_key, username = excluded.username,
        created_at = excluded.created_at, updated_at = excluded.updated_at, profile = excluded.profile,
        password = excluded.password, recovery_codes = excluded.recovery_codes
        WHERE users.version IS NULL";
    let codes = secrets.recovery_codes.concat();
    let (profile, key) = (profile(user), username_key(&user.username));
    let params: [Param<'_>; 12] = [
        &uuid(*user.id.as_bytes()),
        &user.version.cast_signed(),
        &user.auth_epoch.cast_signed(),
        &user.disabled,
        &user.revision.cast_signed(),
        &key,
        &user.username,
        &user.created_at.millis(),
        &user.updated_at.millis(),
        &profile,
        &secrets.password,
        &codes,
    ];
    let inserted = fail::unless_taken(client.execute(INSERT, &params).await, Conflict::UserExists)?;
    fail::unless_none(inserted, Conflict::UserExists)
}

/// Replaces the record of the version before.
pub(in crate::postgres) async fn replace(client: &Client, user: &User) -> Result<()> {
    const UPDATE: &str = "UPDATE users SET version = $2, auth_epoch = $3, disabled = $4, revision = $5,
        username_key = $6, username = $7, created_at = $8, updated_at = $9, profile = $10
        WHERE id = $1 AND version = $11";
    let (profile, key) = (profile(user), username_key(&user.username));
    let params: [Param<'_>; 11] = [
        &uuid(*user.id.as_bytes()),
        &user.version.cast_signed(),
        &user.auth_epoch.cast_signed(),
        &user.disabled,
        &user.revision.cast_signed(),
        &key,
        &user.username,
        &user.created_at.millis(),
        &user.updated_at.millis(),
        &profile,
        &user.version.wrapping_sub(1).cast_signed(),
    ];
    let updated = fail::unless_taken(client.execute(UPDATE, &params).await, Conflict::UserExists)?;
    fail::unless_none(updated, Conflict::UserChanged)
}

/// Writes the secrets of a user, of exactly that version if one is named.
pub(in crate::postgres) async fn write_secrets(
    client: &Client,
    id: UserId,
    (version, secrets): (Option<u32>, &UserSecrets),
) -> Result<()> {
    const WRITE: &str = "UPDATE users SET password = $2, recovery_codes = $3
        WHERE id = $1 AND version IS NOT NULL AND ($4::integer IS NULL OR version = $4)";
    let codes = secrets.recovery_codes.concat();
    let version = version.map(u32::cast_signed);
    let params: [Param<'_>; 4] = [&uuid(*id.as_bytes()), &secrets.password, &codes, &version];
    fail::unless_none(client.execute(WRITE, &params).await?, Conflict::UserChanged)
}

/// Deletes the user, who must be locked; number, revision and epoch stay for a while (see [`forget_deleted`]).
pub(in crate::postgres) async fn delete(
    client: &Client,
    id: UserId,
    (version, at): (u32, Timestamp),
) -> Result<()> {
    const DELETE: &str = "UPDATE users SET version = NULL, disabled = NULL, username_key = NULL,
        username = NULL, created_at = NULL, updated_at = $3, profile = NULL, password = NULL,
        recovery_codes = '' WHERE id = $1 AND version = $2
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE user_n = users.n AND NOT ended)";
    let params: [Param<'_>; 3] = [&uuid(*id.as_bytes()), &version.cast_signed(), &at.millis()];
    fail::unless_none(client.execute(DELETE, &params).await?, Conflict::UserChanged)
}

/// Forgets deleted users of whom nothing is left: no session, no event that a verifier may know, and no
/// login under way, which takes minutes.
pub(in crate::postgres) async fn forget_deleted(client: &Client, now: Timestamp, limit: usize) -> Result<()> {
    const FORGET: &str = "DELETE FROM users WHERE version IS NULL AND n IN (
        SELECT n FROM users u WHERE version IS NULL AND coalesce(updated_at, 0) < $1
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE user_n = u.n)
        AND NOT EXISTS (SELECT 1 FROM events WHERE sub = u.id) LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let before = now - REMEMBERED;
    client.execute(FORGET, &[&before.millis(), &sql_limit(limit)]).await.map(drop)
}

/// How long a deleted user is remembered at least.
const REMEMBERED: Duration = Duration::from_secs(86_400);

pub(in crate::postgres) fn profile(user: &User) -> String {
    let profile = Profile {
        name: user.name.as_deref().map(Cow::Borrowed),
        email: user.email.as_deref().map(Cow::Borrowed),
        phone_number: user.phone_number.as_deref().map(Cow::Borrowed),
        phone_number_verified: user.phone_number_verified,
        roles: Cow::Borrowed(&user.roles),
        attributes: Cow::Borrowed(&user.attributes),
    };
    serde_json::to_string(&profile).expect("maps with text keys are JSON")
}

pub(in crate::postgres) fn read_with_secrets(row: &Row) -> Result<(User, UserSecrets)> {
    let mut c = Columns::of(row);
    let head = head(&mut c)?;
    let (user, _) = rest(head, &mut c)?;
    let (password, codes): (Option<String>, &[u8]) = (c.take()?, c.take()?);
    let (recovery_codes, rest) = codes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Fail::corrupt("recovery codes"));
    }
    Ok((user, UserSecrets { password, recovery_codes: recovery_codes.to_vec() }))
}

fn read(row: &Row) -> Result<User> {
    let mut c = Columns::of(row);
    let head = head(&mut c)?;
    Ok(rest(head, &mut c)?.0)
}

/// What tells whether the rest is known already.
struct Head {
    id: UserId,
    version: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

fn head(c: &mut Columns<'_>) -> Result<Head> {
    Ok(Head { id: c.user_id()?, version: c.u32()?, created_at: c.time()?, updated_at: c.time()? })
}

/// The user and the bytes of its JSON.
fn rest(head: Head, c: &mut Columns<'_>) -> Result<(User, usize)> {
    let Head { id, version, created_at, updated_at } = head;
    let (auth_epoch, disabled, revision) = (c.u64()?, c.take()?, c.u64()?);
    let (username, json): (String, &str) = (c.take()?, c.take()?);
    let profile: Profile<'_> =
        serde_json::from_str(json).map_err(|e| Fail::corrupt(format!("user {id}: {e}")))?;
    let user = User {
        id,
        username,
        name: profile.name.map(Cow::into_owned),
        email: profile.email.map(Cow::into_owned),
        phone_number: profile.phone_number.map(Cow::into_owned),
        phone_number_verified: profile.phone_number_verified,
        roles: profile.roles.into_owned(),
        attributes: profile.attributes.into_owned(),
        disabled,
        revision,
        auth_epoch,
        version,
        created_at,
        updated_at,
    };
    Ok((user, json.len()))
}
