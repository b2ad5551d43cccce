//! Texts that many sessions share, by number.

use crate::sqlite::cache::{Cache, Caches};
use crate::sqlite::fail::{Fail, Result};
use reseal_core::{ClientId, PolicyName, Scope};
use rusqlite::{Connection, OptionalExtension as _};
use std::str::FromStr;
use std::sync::Arc;

/// Counts one more use of the text, and returns its number.
pub(in crate::sqlite) fn hold(conn: &Connection, text: &str) -> Result<i64> {
    const HOLD: &str = "INSERT INTO texts (text, uses) VALUES (?1, 1)
        ON CONFLICT (text) DO UPDATE SET uses = uses + 1 RETURNING n";
    Ok(conn.prepare_cached(HOLD)?.query_row([text], |row| row.get(0))?)
}

/// Counts one use less; the last one takes the text with it.
pub(in crate::sqlite) fn release(conn: &Connection, n: i64) -> Result<()> {
    conn.prepare_cached("UPDATE texts SET uses = uses - 1 WHERE n = ?1")?.execute([n])?;
    conn.prepare_cached("DELETE FROM texts WHERE n = ?1 AND uses <= 0")?.execute([n])?;
    Ok(())
}

/// The number of the text, if any session uses it.
pub(in crate::sqlite) fn number(conn: &Connection, text: &str) -> Result<Option<i64>> {
    let found = conn
        .prepare_cached("SELECT n FROM texts WHERE text = ?1")?
        .query_row([text], |row| row.get(0))
        .optional()?;
    Ok(found)
}

pub(in crate::sqlite) fn client(conn: &Connection, caches: &mut Caches, n: i64) -> Result<ClientId> {
    parsed(conn, &mut caches.clients, n)
}

pub(in crate::sqlite) fn policy(conn: &Connection, caches: &mut Caches, n: i64) -> Result<PolicyName> {
    parsed(conn, &mut caches.policies, n)
}

pub(in crate::sqlite) fn scope(conn: &Connection, caches: &mut Caches, n: i64) -> Result<Scope> {
    parsed(conn, &mut caches.scopes, n)
}

pub(in crate::sqlite) fn user_agent(conn: &Connection, caches: &mut Caches, n: i64) -> Result<Arc<str>> {
    cached(conn, &mut caches.user_agents, n, |text| Ok(text.into()))
}

fn parsed<T: FromStr + Clone>(conn: &Connection, cache: &mut Cache<i64, T>, n: i64) -> Result<T> {
    cached(conn, cache, n, |text| text.parse().map_err(|_| Fail::corrupt(format!("text {n} does not parse"))))
}

fn cached<T: Clone>(
    conn: &Connection,
    cache: &mut Cache<i64, T>,
    n: i64,
    parse: impl FnOnce(&str) -> Result<T>,
) -> Result<T> {
    if let Some(value) = cache.find(n) {
        return Ok(value);
    }
    let mut statement = conn.prepare_cached("SELECT text FROM texts WHERE n = ?1")?;
    let mut rows = statement.query([n])?;
    let row = rows.next()?.ok_or_else(|| Fail::corrupt(format!("text {n} is missing")))?;
    let text = row.get_ref(0)?.as_str().map_err(|e| Fail::corrupt(format!("text {n}: {e}")))?;
    let value = parse(text)?;
    // Parsed sets take several times the bytes of their text.
    cache.insert(n, value.clone(), 4 * text.len() + 128);
    Ok(value)
}
