//! Challenges: one-time codes that wait to be answered.

use super::{Columns, session::sql_limit};
use crate::Conflict;
use crate::sqlite::fail::{self, Fail, Result};
use reseal_core::challenge::{Challenge, Purpose};
use reseal_core::client::SecretHash;
use reseal_core::{KeyId, SessionId, Timestamp};
use rusqlite::{Connection, Row, named_params, params};

pub(in crate::sqlite) fn by_id(conn: &Connection, id: &SecretHash) -> Result<Option<Challenge>> {
    const SELECT: &str = "SELECT id, version, user_id, client_id, password_at, session_id, phone_number,
        auth_epoch, key_id, code_hash, tries_left, sends, sent_at, expires_at FROM challenges WHERE id = ?1";
    let mut statement = conn.prepare_cached(SELECT)?;
    let mut rows = statement.query([id.0])?;
    rows.next()?.map(read).transpose()
}

pub(in crate::sqlite) fn insert(conn: &Connection, challenge: &Challenge) -> Result<()> {
    const INSERT: &str = "INSERT INTO challenges (id, version, user_id, client_id, password_at, session_id,
        phone_number, auth_epoch, key_id, code_hash, tries_left, sends, sent_at, expires_at)
        VALUES (:id, :version, :user_id, :client_id, :password_at, :session_id, :phone_number, :auth_epoch,
        :key_id, :code_hash, :tries_left, :sends, :sent_at, :expires_at)";
    fail::unless_taken(write(conn, INSERT, challenge), Conflict::ChallengeChanged)?;
    Ok(())
}

/// Replaces the record of the version before.
pub(in crate::sqlite) fn replace(conn: &Connection, challenge: &Challenge) -> Result<()> {
    const UPDATE: &str = "UPDATE challenges SET version = :version, user_id = :user_id,
        client_id = :client_id, password_at = :password_at, session_id = :session_id,
        phone_number = :phone_number, auth_epoch = :auth_epoch, key_id = :key_id, code_hash = :code_hash,
        tries_left = :tries_left, sends = :sends, sent_at = :sent_at, expires_at = :expires_at
        WHERE id = :id AND version = (:version - 1) & 0xffffffff";
    fail::unless_none(write(conn, UPDATE, challenge)?, Conflict::ChallengeChanged)
}

/// Deletes the record of exactly this version.
pub(in crate::sqlite) fn take(conn: &Connection, id: &SecretHash, version: u32) -> Result<()> {
    let mut statement = conn.prepare_cached("DELETE FROM challenges WHERE id = ?1 AND version = ?2")?;
    fail::unless_none(statement.execute(params![id.0, version])?, Conflict::ChallengeChanged)
}

/// Deletes the record, whatever its version.
pub(in crate::sqlite) fn remove(conn: &Connection, id: &SecretHash) -> Result<()> {
    conn.prepare_cached("DELETE FROM challenges WHERE id = ?1")?.execute([id.0])?;
    Ok(())
}

/// Deletes those that are over at `now`.
pub(in crate::sqlite) fn sweep(conn: &Connection, now: Timestamp, limit: usize) -> Result<usize> {
    const SWEEP: &str = "DELETE FROM challenges WHERE id IN (
        SELECT id FROM challenges WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    Ok(conn.prepare_cached(SWEEP)?.execute(params![now.millis(), sql_limit(limit)])?)
}

fn write(conn: &Connection, sql: &str, challenge: &Challenge) -> rusqlite::Result<usize> {
    let (client_id, password_at, session_id) = match &challenge.purpose {
        Purpose::Login { client_id, password_at } => {
            (Some(client_id.as_str()), Some(password_at.millis()), None)
        }
        Purpose::Phone { session_id } => (None, None, Some(session_id.as_bytes())),
    };
    conn.prepare_cached(sql)?.execute(named_params! {
        ":id": challenge.id.0,
        ":version": challenge.version,
        ":user_id": challenge.user_id.as_bytes(),
        ":client_id": client_id,
        ":password_at": password_at,
        ":session_id": session_id,
        ":phone_number": challenge.phone_number,
        ":auth_epoch": challenge.auth_epoch.cast_signed(),
        ":key_id": challenge.key_id.0,
        ":code_hash": challenge.code_hash.0,
        ":tries_left": challenge.tries_left,
        ":sends": challenge.sends,
        ":sent_at": challenge.sent_at.millis(),
        ":expires_at": challenge.expires_at.millis(),
    })
}

fn read(row: &Row<'_>) -> Result<Challenge> {
    let mut c = Columns::of(row);
    let (id, version, user_id) = (SecretHash(c.take()?), c.take()?, c.user_id()?);
    let client_id: Option<Box<str>> = c.take()?;
    let (password_at, session_id) = (c.time_if_any()?, c.take::<Option<[u8; 16]>>()?);
    let purpose = match (client_id, password_at, session_id) {
        (Some(client_id), Some(password_at), None) => {
            let client_id = client_id.parse().map_err(|_| Fail::corrupt("a challenge's client id"))?;
            Purpose::Login { client_id, password_at }
        }
        (None, None, Some(id)) => Purpose::Phone { session_id: SessionId::from_bytes(id) },
        _ => return Err(Fail::corrupt("a challenge without a purpose")),
    };
    Ok(Challenge {
        id,
        purpose,
        user_id,
        phone_number: c.take()?,
        auth_epoch: c.unsigned()?,
        key_id: KeyId(c.take()?),
        code_hash: SecretHash(c.take()?),
        tries_left: c.take()?,
        sends: c.take()?,
        sent_at: c.time()?,
        expires_at: c.time()?,
        version,
    })
}
