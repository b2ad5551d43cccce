//! Keys: their records are small and few, and read all at once.

use super::Columns;
use crate::Conflict;
use crate::sqlite::fail::{self, Fail, Result};
use reseal_core::KeyId;
use reseal_core::keys::{KeyRecord, KeyUse};
use rusqlite::{Connection, Row, named_params};

pub(in crate::sqlite) fn all(conn: &Connection) -> Result<Vec<KeyRecord>> {
    const SELECT: &str = "SELECT ring_id, algorithm, kid, created_at, active_from, retired_at,
        unpublished_at, withdrawn_at, sealed FROM keys ORDER BY name";
    let mut statement = conn.prepare_cached(SELECT)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Inserts the key, or gives one with the same secret these times; what was withdrawn stays so.
pub(in crate::sqlite) fn put(conn: &Connection, key: &KeyRecord) -> Result<()> {
    let (ring_id, algorithm, kid) = match &key.key_use {
        KeyUse::Signing { algorithm, kid } => (None, Some(algorithm), Some(kid)),
        KeyUse::Ring { id } => (Some(id.0), None, None),
    };
    const PUT: &str = "INSERT INTO keys (name, ring_id, algorithm, kid, created_at, active_from,
        retired_at, unpublished_at, withdrawn_at, sealed) VALUES (:name, :ring_id, :algorithm, :kid,
        :created_at, :active_from, :retired_at, :unpublished_at, :withdrawn_at, :sealed)
        ON CONFLICT (name) DO UPDATE SET created_at = excluded.created_at,
        active_from = excluded.active_from, retired_at = excluded.retired_at,
        unpublished_at = excluded.unpublished_at,
        withdrawn_at = coalesce(withdrawn_at, excluded.withdrawn_at)
        WHERE sealed = excluded.sealed";
    let put = conn.prepare_cached(PUT)?.execute(named_params! {
        ":name": name(&key.key_use),
        ":ring_id": ring_id,
        ":algorithm": algorithm,
        ":kid": kid,
        ":created_at": key.created_at.millis(),
        ":active_from": key.active_from.millis(),
        ":retired_at": key.retired_at.map(|t| t.millis()),
        ":unpublished_at": key.unpublished_at.map(|t| t.millis()),
        ":withdrawn_at": key.withdrawn_at.map(|t| t.millis()),
        ":sealed": key.sealed,
    })?;
    fail::unless_none(put, Conflict::KeyExists)
}

pub(in crate::sqlite) fn delete(conn: &Connection, key_use: &KeyUse) -> Result<()> {
    conn.prepare_cached("DELETE FROM keys WHERE name = ?1")?.execute([name(key_use)])?;
    Ok(())
}

fn name(key_use: &KeyUse) -> String {
    match key_use {
        KeyUse::Signing { algorithm, kid } => format!("signing {algorithm} {kid}"),
        KeyUse::Ring { id } => format!("ring {}", id.0),
    }
}

fn read(row: &Row<'_>) -> Result<KeyRecord> {
    let mut c = Columns::of(row);
    let key_use = match (c.take::<Option<u32>>()?, c.take()?, c.take()?) {
        (Some(id), None, None) => KeyUse::Ring { id: KeyId(id) },
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
