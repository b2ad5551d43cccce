//! The plain advance of a refresh token, written in the trip that reads the row.

use super::session::SessionRow;
use super::{Columns, session, user, uuid};
use crate::Snapshot;
use crate::postgres::fail::Result;
use crate::postgres::known::{Known, Numbers};
use crate::postgres::pool::{Client, Param};
use reseal_core::refresh::Advance;
use reseal_core::{SessionId, Timestamp};
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// A prediction for one session, with the numbers of its client and its policy.
pub(in crate::postgres) struct Foreseen<'a> {
    pub(in crate::postgres) id: SessionId,
    pub(in crate::postgres) advance: &'a Advance,
    pub(in crate::postgres) client: i32,
    pub(in crate::postgres) policy: i32,
}

/// A row as it was, and whether the prediction was written over it.
pub(in crate::postgres) struct Found {
    pub(in crate::postgres) written: bool,
    pub(in crate::postgres) numbers: Numbers,
    pub(in crate::postgres) snapshot: Snapshot,
}

/// Reads the sessions with their users, and writes each prediction that its row allows.
///
/// `old` and the users are one snapshot. A row that somebody else writes at the same moment is not of that
/// version any more when it is its turn: then nothing is written, and the decision on the old row comes to
/// nothing in its compare-and-swap. Conditions and values are those of [`Advance::apply`], turned so that no
/// number in a row can make the statement fail: sums are made in the parameters, or where the row is known to
/// be small enough.
const ADVANCE: &str = "WITH p AS (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::bigint[], $9::bigint[], $10::integer[], $11::integer[], $12::integer[])
            AS x (p_id, p_number, p_nonce, p_now, p_started_after, p_renewed_after, p_idle_until, p_max_ttl,
            p_window_before, p_key_id, p_client, p_policy) ORDER BY p_id),
    old AS (
        SELECT s.*, u.id AS u_id, u.version AS u_version, u.created_at AS u_created_at,
            u.updated_at AS u_updated_at, u.auth_epoch, u.disabled, u.revision, u.username, u.profile,
            p_number, p_nonce, p_now, p_idle_until, p_max_ttl, p_window_before,
            NOT s.ended AND s.client = p_client AND s.policy = p_policy AND s.key_id = p_key_id
                AND s.used = p_number - 1 AND s.started_at > p_started_after AND s.renewed_at > p_renewed_after
                AND s.expires_at > p_now AND s.idle_expires_at > p_now
                AND s.started_at < 2305843009213693952 AND s.version <> 2147483647 AS foretold
        FROM p JOIN sessions s ON s.id = p_id JOIN users u ON u.n = s.user_n WHERE u.version IS NOT NULL),
    new AS (
        UPDATE sessions s SET version = o.version + 1, used = o.p_number, used_nonce = o.p_nonce, branch = 0,
            renewed_at = o.p_now,
            expires_at = least(o.expires_at, o.started_at + o.p_max_ttl),
            idle_expires_at = least(o.p_idle_until, o.expires_at, o.started_at + o.p_max_ttl),
            sweep_day = (least(o.p_idle_until, o.expires_at, o.started_at + o.p_max_ttl, 185542587187199999)
                / 86400000)::integer,
            window_at = CASE WHEN o.window_at < o.p_window_before THEN o.p_now ELSE o.window_at END,
            window_from = CASE WHEN o.window_at < o.p_window_before THEN o.used ELSE o.window_from END,
            prev_window_at =
                CASE WHEN o.window_at < o.p_window_before THEN o.window_at ELSE o.prev_window_at END,
            prev_window_from =
                CASE WHEN o.window_at < o.p_window_before THEN o.window_from ELSE o.prev_window_from END
        FROM old o WHERE o.foretold AND s.id = o.id AND s.version = o.version AND NOT s.ended
        RETURNING s.id)
    SELECT o.id IN (SELECT new.id FROM new), o.client, o.policy, o.scope, o.user_agent, o.id, o.u_id, o.version,
        o.used, o.used_nonce, o.branch, o.window_at, o.window_from, o.prev_window_at, o.prev_window_from,
        o.renewed_at, o.idle_expires_at, o.expires_at, o.started_at, o.key_id, o.acr, o.amr, o.authenticated_at,
        o.binding, o.ip, o.ended_at, o.end_reason, o.cookie_generation, o.cookie_raised_at, o.cookie_confirmed,
        o.cookie_acr, o.cookie_amr, o.cookie_authenticated_at, o.u_id, o.u_version, o.u_created_at,
        o.u_updated_at, o.auth_epoch, o.disabled, o.revision, o.username, o.profile
    FROM old o";

/// Writes ahead what the rows allow; to be sorted by id, each once. What [`read`] makes of the answer: the rows as
/// they were, without sessions that are not there.
pub(in crate::postgres) async fn write(client: &Client, foreseen: &[Foreseen<'_>]) -> Result<Vec<Row>> {
    let longs = |f: fn(&Advance) -> i64| foreseen.iter().map(|x| f(x.advance)).collect::<Vec<i64>>();
    let params: [Param<'_>; 12] = [
        &foreseen.iter().map(|f| uuid(*f.id.as_bytes())).collect::<Vec<Uuid>>(),
        &longs(|a| a.number.cast_signed()),
        &foreseen.iter().map(|f| uuid(f.advance.nonce)).collect::<Vec<Uuid>>(),
        &longs(|a| a.now.millis()),
        &longs(|a| (a.now - a.max_ttl).millis()),
        &longs(|a| a.idle_ttl.map_or(i64::MIN, |ttl| (a.now - ttl).millis())),
        &longs(|a| a.idle_ttl.map_or(i64::MAX, |ttl| (a.now + ttl).millis())),
        &longs(|a| millis(a.max_ttl)),
        &longs(|a| (a.now - a.grace).millis()),
        &foreseen.iter().map(|f| f.advance.key_id.0.cast_signed()).collect::<Vec<i32>>(),
        &foreseen.iter().map(|f| f.client).collect::<Vec<i32>>(),
        &foreseen.iter().map(|f| f.policy).collect::<Vec<i32>>(),
    ];
    client.query(ADVANCE, &params).await
}

/// Reads the rows that were written or not, each by itself: what is wrong with one is no other's affair.
pub(in crate::postgres) async fn read(
    client: &Client,
    known: &Known,
    rows: &[Row],
) -> Result<Vec<(SessionId, Result<Found>)>> {
    let fetched = session::fetch(client, known, rows, 1).await?;
    let mut caches = known.parsed();
    let mut read = |row| {
        let mut c = Columns::of(row);
        let written = c.take()?;
        let SessionRow { numbers, session } = session::read(&mut c, &mut caches, &fetched)?;
        let user = user::cached(&mut c, &mut caches)?;
        Ok(Found { written, numbers, snapshot: Snapshot { session, user } })
    };
    rows.iter().map(|row| Ok((session::id(row, 1)?, read(row)))).collect()
}

/// Whether the statement's sums stay within their bounds for this prediction.
pub(in crate::postgres) fn is_plausible(advance: &Advance) -> bool {
    const LAST: Timestamp = Timestamp::from_secs(253_402_300_800);
    advance.now > Timestamp::EPOCH
        && advance.now < LAST
        && (1..i64::MAX.unsigned_abs()).contains(&advance.number)
        && [Some(advance.max_ttl), advance.idle_ttl, Some(advance.grace)]
            .into_iter()
            .flatten()
            .all(|ttl| ttl < Duration::from_secs(1 << 33) && ttl.subsec_nanos() == 0)
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}
