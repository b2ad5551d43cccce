//! Keys: their records are small and few, and read all at once.

use super::Columns;
use crate::Conflict;
use crate::postgres::fail::{self, Fail, Result};
use crate::postgres::pool::{Client, Param};
use reseal_core::KeyId;
use reseal_core::keys::{KeyRecord, KeyUse};
use tokio_postgres::Row;

pub(in crate::postgres) async fn all(client: &Client) -> Result<Vec<KeyRecord>> {
    const SELECT: &str = "SELECT ring_id, algorithm, kid, created_at, active_from, retired_at,
        unpublished_at, withdrawn_at, sealed FROM keys ORDER BY name";
    client.query(SELECT, &[]).await?.iter().map(read).collect()
}

/// Inserts the key, or gives one with the same secret these times; what was withdrawn stays so.
pub(in crate::postgres) async fn put(client: &Client, key: &KeyRecord) -> Result<()> {
    let (ring_id, algorithm, kid) = match &key.key_use {
        KeyUse::Signing { algorithm, kid } => (None, Some(algorithm), Some(kid)),
        KeyUse::Ring { id } => (Some(id.0.cast_signed()), None, None),
    };
    const PUT: &str = "INSERT INTO keys (name, ring_id, algorithm, kid, created_at, active_from,
        retired_at, unpublished_at, withdrawn_at, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (name) DO UPDATE SET created_at = excluded.created_at,
        active_from = excluded.active_from, retired_at = excluded.retired_at,
        unpublished_at = excluded.unpublished_at,
        withdrawn_at = coalesce(keys.withdrawn_at, excluded.withdrawn_at)
        WHERE keys.sealed = excluded.sealed";
    let params: [Param<'_>; 10] = [
        &name(&key.key_use),
        &ring_id,
        &algorithm,
        &kid,
        &key.created_at.millis(),
        &key.active_from.millis(),
        &key.retired_at.map(|t| t.millis()),
        &key.unpublished_at.map(|t| t.millis()),
        &key.withdrawn_at.map(|t| t.millis()),
        &key.sealed,
    ];
    fail::unless_none(client.execute(PUT, &params).await?, Conflict::KeyExists)
}

pub(in crate::postgres) async fn delete(client: &Client, key_use: &KeyUse) -> Result<()> {
    client.execute("DELETE FROM keys WHERE name = $1", &[&name(key_use)]).await.map(drop)
}

fn name(key_use: &KeyUse) -> String {
    match key_use {
        KeyUse::Signing { algorithm, kid } => format!("signing {algorithm} {kid}"),
        KeyUse::Ring { id } => format!("ring {}", id.0),
    }
}

fn read(row: &Row) -> Result<KeyRecord> {
    let mut c = Columns::of(row);
    let key_use = match (c.take::<Option<i32>>()?, c.take()?, c.take()?) {
        (Some(id), None, None) => KeyUse::Ring { id: KeyId(id.cast_unsigned()) },
        (None, Some(algorithm), Some(kid)) => KeyUse::Signing { algorithm, kid },
        _ => return Err(Fail::corrupt("a key without a use")),
    };
    Ok(KeyRecord {
        key_use,
        created_at: c.time()?,
        active_from: c.time()?,
        retired_at: c.time_if_any()?,
        unpublished_at: c.time_if_any()?,
        withdrawn_at: c.time_if_any()?,
        sealed: c.take()?,
    })
}
