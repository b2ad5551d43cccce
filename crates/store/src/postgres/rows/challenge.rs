//! Challenges: one-time codes that wait to be answered.

use super::{Columns, sql_limit, uuid};
use crate::Conflict;
use crate::postgres::fail::{self, Fail, Result};
use crate::postgres::pool::{Client, Param};
use reseal_core::challenge::{Challenge, Purpose};
use reseal_core::client::SecretHash;
use reseal_core::{KeyId, SessionId, Timestamp};

pub(in crate::postgres) async fn by_id(client: &Client, id: SecretHash) -> Result<Option<Challenge>> {
    const SELECT: &str = "SELECT id, version, user_id, client_id, password_at, session_id, phone_number,
        auth_epoch, key_id, code_hash, tries_left, sends, sent_at, expires_at FROM challenges WHERE id = $1";
    let row = client.query_opt(SELECT, &[&&id.0[..]]).await?;
    row.map(|row| read(&mut Columns::of(&row))).transpose()
}

pub(in crate::postgres) async fn insert(client: &Client, challenge: &Challenge) -> Result<()> {
    const INSERT: &str = "INSERT INTO challenges (id, version, user_id, client_id, password_at, session_id,
        phone_number, auth_epoch, key_id, code_hash, tries_left, sends, sent_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (id) DO NOTHING";
    fail::unless_none(write(client, INSERT, challenge, 14).await?, Conflict::ChallengeChanged)
}

/// Replaces the record of the version before.
pub(in crate::postgres) async fn replace(client: &Client, challenge: &Challenge) -> Result<()> {
    const UPDATE: &str = "UPDATE challenges SET version = $2, user_id = $3, client_id = $4, password_at = $5,
        session_id = $6, phone_number = $7, auth_epoch = $8, key_id = $9, code_hash = $10, tries_left = $11,
        sends = $12, sent_at = $13, expires_at = $14 WHERE id = $1 AND version = $15";
    fail::unless_none(write(client, UPDATE, challenge, 15).await?, Conflict::ChallengeChanged)
}

/// Deletes the record of exactly this version.
pub(in crate::postgres) async fn take(client: &Client, id: &SecretHash, version: u32) -> Result<()> {
    const TAKE: &str = "DELETE FROM challenges WHERE id = $1 AND version = $2";
    let taken = client.execute(TAKE, &[&&id.0[..], &version.cast_signed()]).await?;
    fail::unless_none(taken, Conflict::ChallengeChanged)
}

/// Deletes those that are over at `now`.
pub(in crate::postgres) async fn sweep(client: &Client, now: Timestamp, limit: usize) -> Result<u64> {
    const SWEEP: &str = "DELETE FROM challenges WHERE id IN (SELECT id FROM challenges WHERE expires_at <= $1
        ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    client.execute(SWEEP, &[&now.millis(), &sql_limit(limit)]).await
}

async fn write(client: &Client, sql: &'static str, challenge: &Challenge, used: usize) -> Result<u64> {
    let (client_id, password_at, session_id) = match &challenge.purpose {
        Purpose::Login { client_id, password_at } => {
            (Some(client_id.as_str()), Some(password_at.millis()), None)
        }
        Purpose::Phone { session_id } => (None, None, Some(uuid(*session_id.as_bytes()))),
    };
    let before = challenge.version.wrapping_sub(1).cast_signed();
    let params: [Param<'_>; 15] = [
        &&challenge.id.0[..],
        &challenge.version.cast_signed(),
        &uuid(*challenge.user_id.as_bytes()),
        &client_id,
        &password_at,
        &session_id,
        &challenge.phone_number,
        &challenge.auth_epoch.cast_signed(),
        &challenge.key_id.0.cast_signed(),
        &&challenge.code_hash.0[..],
        &i16::from(challenge.tries_left),
        &i16::from(challenge.sends),
        &challenge.sent_at.millis(),
        &challenge.expires_at.millis(),
        &before,
    ];
    client.execute(sql, &params[..used]).await
}

fn read(c: &mut Columns<'_>) -> Result<Challenge> {
    let (id, version, user_id) = (SecretHash(c.bytes32()?), c.u32()?, c.user_id()?);
    let client_id: Option<&str> = c.take()?;
    let (password_at, session_id) = (c.time_if_any()?, c.bytes16_if_any()?);
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
        auth_epoch: c.u64()?,
        key_id: KeyId(c.u32()?),
        code_hash: SecretHash(c.bytes32()?),
        tries_left: c.u8()?,
        sends: c.u8()?,
        sent_at: c.time()?,
        expires_at: c.time()?,
        version,
    })
}
