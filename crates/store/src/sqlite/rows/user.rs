//! Users and their secrets.

use super::{Columns, session::sql_limit};
use crate::Conflict;
use crate::sqlite::cache::Caches;
use crate::sqlite::fail::{self, Fail, Result};
use crate::transfer::DeletedUser;
use reseal_core::user::{UserSecrets, username_key};
use reseal_core::{Timestamp, User, UserId};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT u.id, u.version, u.auth_epoch, u.disabled, u.revision, u.username, u.created_at,
            u.updated_at, u.profile FROM users u ",
            $rest
        )
    };
}

/// What tells a record from any other of the same id: an id may come again once its user is forgotten, and
/// begins with the first version again.
#[derive(Clone, Copy)]
pub(in crate::sqlite) struct Edition {
    pub(in crate::sqlite) version: u32,
    pub(in crate::sqlite) created_at: Timestamp,
}

/// The user of that number in that edition, parsed at most once as long as it is cached. To be called
/// inside the snapshot in which the edition was read.
pub(in crate::sqlite) fn cached(
    conn: &Connection,
    caches: &mut Caches,
    (id, n, edition): (UserId, i64, Edition),
) -> Result<Arc<User>> {
    if let Some(user) = caches.users.find(id)
        && user.version == edition.version
        && user.created_at == edition.created_at
    {
        return Ok(user);
    }
    let mut statement = conn.prepare_cached(select!("WHERE u.n = ?1"))?;
    let mut rows = statement.query([n])?;
    let row = rows.next()?.ok_or_else(|| Fail::corrupt("a session without its user"))?;
    let (user, bytes) = read(row)?;
    let user = Arc::new(user);
    caches.users.insert(id, Arc::clone(&user), 3 * bytes + 512);
    Ok(user)
}

/// The number of a user, deleted ones included.
pub(in crate::sqlite) fn number(conn: &Connection, id: UserId) -> Result<Option<i64>> {
    let mut statement = conn.prepare_cached("SELECT n FROM users WHERE id = ?1")?;
    Ok(statement.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
}

/// What a login must find unchanged.
pub(in crate::sqlite) struct LoginState {
    pub(in crate::sqlite) n: i64,
    pub(in crate::sqlite) auth_epoch: u64,
    pub(in crate::sqlite) disabled: bool,
}

pub(in crate::sqlite) fn login_state(conn: &Connection, id: UserId) -> Result<Option<LoginState>> {
    const STATE: &str = "SELECT n, auth_epoch, disabled FROM users WHERE id = ?1 AND version IS NOT NULL";
    let mut statement = conn.prepare_cached(STATE)?;
    let state = statement.query_row([id.as_bytes()], |row| {
        let auth_epoch = row.get::<_, i64>(1)?.cast_unsigned();
        Ok(LoginState { n: row.get(0)?, auth_epoch, disabled: row.get(2)? })
    });
    Ok(state.optional()?)
}

pub(in crate::sqlite) fn by_id(conn: &Connection, id: UserId) -> Result<Option<User>> {
    let sql = select!("WHERE u.id = ?1 AND u.version IS NOT NULL");
    Ok(list(conn, sql, params![id.as_bytes()])?.pop())
}

pub(in crate::sqlite) fn page(conn: &Connection, after: Option<UserId>, limit: usize) -> Result<Vec<User>> {
    let after: &[u8] = after.as_ref().map_or(&[], |id| id.as_bytes());
    let sql = select!("WHERE u.id > ?1 AND u.version IS NOT NULL ORDER BY u.id LIMIT ?2");
    list(conn, sql, params![after, sql_limit(limit)])
}

pub(in crate::sqlite) fn with_secrets_by_id(
    conn: &Connection,
    id: UserId,
) -> Result<Option<(User, UserSecrets)>> {
    with_secrets(conn, select!("WHERE u.id = ?1 AND u.version IS NOT NULL"), params![id.as_bytes()])
}

pub(in crate::sqlite) fn with_secrets_by_username(
    conn: &Connection,
    username: &str,
) -> Result<Option<(User, UserSecrets)>> {
    with_secrets(conn, select!("WHERE u.username_key = ?1"), params![username_key(username)])
}

/// Inserts the record, or puts it in the place of a deleted user of that id, above its revision and epoch.
pub(in crate::sqlite) fn insert(conn: &Connection, user: &User, secrets: &UserSecrets) -> Result<()> {
    const INSERT: &str = "INSERT INTO users (id, version, auth_epoch, disabled, revision, username_key,
        username, created_at, updated_at, profile) VALUES (:id, :version, :auth_epoch, :disabled,
        :revision, :username_key, :username, :created_at, :updated_at, :profile)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, disabled = excluded.disabled,
        auth_epoch = max(excluded.auth_epoch, coalesce(auth_epoch, 0) + 1),
        revision = max(excluded.revision, coalesce(revision, 0) + 1),
        username_key = excluded.username_key, username = excluded.username,
        created_at = excluded.created_at, updated_at = excluded.updated_at, profile = excluded.profile
        WHERE version IS NULL";
    let inserted = write(conn, INSERT, user);
    fail::unless_none(fail::unless_taken(inserted, Conflict::UserExists)?, Conflict::UserExists)?;
    write_secrets(conn, user.id, secrets)
}

/// Replaces the record of the version before.
pub(in crate::sqlite) fn replace(conn: &Connection, user: &User) -> Result<()> {
    const UPDATE: &str = "UPDATE users SET version = :version, auth_epoch = :auth_epoch,
        disabled = :disabled, revision = :revision, username_key = :username_key, username = :username,
        created_at = :created_at, updated_at = :updated_at, profile = :profile
        WHERE id = :id AND version = (:version - 1) & 0xffffffff";
    let updated = write(conn, UPDATE, user);
    fail::unless_none(fail::unless_taken(updated, Conflict::UserExists)?, Conflict::UserChanged)
}

/// Whether there is a user of exactly this version.
pub(in crate::sqlite) fn has_version(conn: &Connection, id: UserId, version: u32) -> Result<bool> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM users WHERE id = ?1 AND version = ?2")?;
    Ok(statement.exists(params![id.as_bytes(), version])?)
}

pub(in crate::sqlite) fn write_secrets(conn: &Connection, id: UserId, secrets: &UserSecrets) -> Result<()> {
    const WRITE: &str = "INSERT INTO user_secrets (user, password, recovery_codes)
        SELECT n, ?2, ?3 FROM users WHERE id = ?1
        ON CONFLICT (user) DO UPDATE SET password = excluded.password,
        recovery_codes = excluded.recovery_codes";
    let codes = secrets.recovery_codes.concat();
    conn.prepare_cached(WRITE)?.execute(params![id.as_bytes(), secrets.password, codes])?;
    Ok(())
}

/// Deletes the user; number, revision and epoch stay for a while (see [`forget_deleted`]).
pub(in crate::sqlite) fn delete(
    conn: &Connection,
    id: UserId,
    (version, at): (u32, Timestamp),
) -> Result<()> {
    const DELETE: &str = "UPDATE users SET version = NULL, disabled = NULL, username_key = NULL,
        username = NULL, created_at = NULL, updated_at = ?3, profile = NULL WHERE id = ?1 AND version = ?2
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE user = users.n AND ended = 0)";
    let deleted = conn.prepare_cached(DELETE)?.execute(params![id.as_bytes(), version, at.millis()])?;
    fail::unless_none(deleted, Conflict::UserChanged)?;
    conn.prepare_cached("DELETE FROM user_secrets WHERE user = (SELECT n FROM users WHERE id = ?1)")?
        .execute([id.as_bytes()])?;
    Ok(())
}

/// Forgets deleted users of whom nothing is left: no session, no event that a verifier may know, and no
/// login under way, which takes minutes.
pub(in crate::sqlite) fn forget_deleted(conn: &Connection, now: Timestamp, limit: usize) -> Result<()> {
    const FORGET: &str = "DELETE FROM users WHERE n IN (
        SELECT n FROM users u WHERE version IS NULL AND coalesce(updated_at, 0) < ?1
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE user = u.n)
        AND NOT EXISTS (SELECT 1 FROM events WHERE sub = u.id) LIMIT ?2)";
    let before = now - REMEMBERED;
    conn.prepare_cached(FORGET)?.execute(params![before.millis(), sql_limit(limit)])?;
    Ok(())
}

/// How long a deleted user is remembered at least.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// Inserts the record, or writes it over whatever there is of that id, with the secrets. Whoever else has
/// the name loses it: that is a row of before, which is about to be written as well.
pub(in crate::sqlite) fn put(conn: &Connection, user: &User, secrets: &UserSecrets) -> Result<()> {
    conn.prepare_cached("UPDATE users SET username_key = NULL WHERE username_key = ?1 AND id <> ?2")?
        .execute(params![username_key(&user.username), user.id.as_bytes()])?;
    const PUT: &str = "INSERT INTO users (id, version, auth_epoch, disabled, revision, username_key,
        username, created_at, updated_at, profile) VALUES (:id, :version, :auth_epoch, :disabled,
        :revision, :username_key, :username, :created_at, :updated_at, :profile)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, disabled = excluded.disabled,
        auth_epoch = excluded.auth_epoch, revision = excluded.revision,
        username_key = excluded.username_key, username = excluded.username,
        created_at = excluded.created_at, updated_at = excluded.updated_at, profile = excluded.profile";
    write(conn, PUT, user)?;
    write_secrets(conn, user.id, secrets)
}

/// Writes what is remembered of a deleted user in the place of the record, if there is one.
pub(in crate::sqlite) fn put_deleted(conn: &Connection, deleted: &DeletedUser) -> Result<()> {
    const PUT: &str = "INSERT INTO users (id, auth_epoch, revision, updated_at) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (id) DO UPDATE SET version = NULL, disabled = NULL, username_key = NULL, username = NULL,
        created_at = NULL, profile = NULL, auth_epoch = excluded.auth_epoch, revision = excluded.revision,
        updated_at = excluded.updated_at";
    conn.prepare_cached(PUT)?.execute(params![
        deleted.id.as_bytes(),
        deleted.auth_epoch.cast_signed(),
        deleted.revision.cast_signed(),
        deleted.deleted_at.millis(),
    ])?;
    conn.prepare_cached("DELETE FROM user_secrets WHERE user = (SELECT n FROM users WHERE id = ?1)")?
        .execute([deleted.id.as_bytes()])?;
    Ok(())
}

/// What is remembered of the user, if it was deleted.
pub(in crate::sqlite) fn deleted(conn: &Connection, id: UserId) -> Result<Option<DeletedUser>> {
    const DELETED: &str = "SELECT coalesce(auth_epoch, 0), coalesce(revision, 0), coalesce(updated_at, 0)
        FROM users WHERE id = ?1 AND version IS NULL";
    let mut statement = conn.prepare_cached(DELETED)?;
    let found = statement.query_row([id.as_bytes()], |row| {
        let (auth_epoch, revision) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
        Ok(DeletedUser {
            id,
            auth_epoch: auth_epoch.cast_unsigned(),
            revision: revision.cast_unsigned(),
            deleted_at: Timestamp::from_millis(row.get(2)?),
        })
    });
    Ok(found.optional()?)
}

/// Removes every trace of the user of that number, who has no sessions.
pub(in crate::sqlite) fn remove(conn: &Connection, n: i64) -> Result<()> {
    conn.prepare_cached("DELETE FROM users WHERE n = ?1")?.execute([n])?;
    Ok(())
}

fn write(conn: &Connection, sql: &str, user: &User) -> rusqlite::Result<usize> {
    conn.prepare_cached(sql)?.execute(named_params! {
        ":id": user.id.as_bytes(),
        ":version": user.version,
        ":auth_epoch": user.auth_epoch.cast_signed(),
        ":disabled": user.disabled,
        ":revision": user.revision.cast_signed(),
        ":username_key": username_key(&user.username),
        ":username": user.username,
        ":created_at": user.created_at.millis(),
        ":updated_at": user.updated_at.millis(),
        ":profile": profile(user),
    })
}

fn profile(user: &User) -> String {
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

fn list(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<User>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?.0);
    }
    Ok(found)
}

fn with_secrets(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Option<(User, UserSecrets)>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (user, _) = read(row)?;
    // `rows` is still open, so this reads the same snapshot.
    const SECRETS: &str = "SELECT password, recovery_codes FROM user_secrets
        WHERE user = (SELECT n FROM users WHERE id = ?1)";
    let mut statement = conn.prepare_cached(SECRETS)?;
    let found = statement
        .query_row([user.id.as_bytes()], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    let Some((password, codes)) = found else { return Ok(Some((user, UserSecrets::default()))) };
    let (recovery_codes, rest) = codes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Fail::corrupt("recovery codes"));
    }
    Ok(Some((user, UserSecrets { password, recovery_codes: recovery_codes.to_vec() })))
}

/// The user and the bytes of its JSON.
fn read(row: &Row<'_>) -> Result<(User, usize)> {
    let mut c = Columns::of(row);
    let (id, version) = (c.user_id()?, c.take()?);
    let (auth_epoch, disabled, revision) = (c.unsigned()?, c.take()?, c.unsigned()?);
    let (username, created_at, updated_at) = (c.take()?, c.time()?, c.time()?);
    let json = row.get_ref(8)?.as_str().map_err(|e| Fail::corrupt(format!("user {id}: {e}")))?;
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
