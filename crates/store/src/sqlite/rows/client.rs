//! Clients.

use super::{Columns, session::sql_limit};
use crate::Conflict;
use crate::sqlite::fail::{self, Fail, Result};
use reseal_core::claims::Projection;
use reseal_core::client::SecretHash;
use reseal_core::{Client, ClientId, Scope};
use rusqlite::{Connection, Row, named_params, params};
use serde::{Deserialize, Serialize};

/// The lists of a client, as JSON: read whole, searched never.
#[derive(Serialize, Deserialize)]
struct Rights {
    audience: Vec<String>,
    scope: Scope,
    claims: Projection,
    origins: Vec<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, disabled, name, secret_hash, policy, algorithm, introspect, created_at,
            updated_at, rights FROM clients ",
            $rest
        )
    };
}

pub(in crate::sqlite) fn by_id(conn: &Connection, id: &ClientId) -> Result<Option<Client>> {
    Ok(list(conn, select!("WHERE id = ?1"), params![id.as_str()])?.pop())
}

pub(in crate::sqlite) fn page(
    conn: &Connection,
    after: Option<&ClientId>,
    limit: usize,
) -> Result<Vec<Client>> {
    let after = after.map_or("", ClientId::as_str);
    list(conn, select!("WHERE id > ?1 ORDER BY id LIMIT ?2"), params![after, sql_limit(limit)])
}

pub(in crate::sqlite) fn insert(conn: &Connection, client: &Client) -> Result<()> {
    const INSERT: &str = "INSERT INTO clients (id, version, disabled, name, secret_hash, policy, algorithm,
        introspect, rights, created_at, updated_at) VALUES (:id, :version, :disabled, :name, :secret_hash,
        :policy, :algorithm, :introspect, :rights, :created_at, :updated_at)";
    fail::unless_taken(write(conn, INSERT, client), Conflict::ClientExists)?;
    Ok(())
}

/// Replaces the record of the version before.
pub(in crate::sqlite) fn replace(conn: &Connection, client: &Client) -> Result<()> {
    const UPDATE: &str = "UPDATE clients SET version = :version, disabled = :disabled, name = :name,
        secret_hash = :secret_hash, policy = :policy, algorithm = :algorithm, introspect = :introspect,
        rights = :rights, created_at = :created_at, updated_at = :updated_at
        WHERE id = :id AND version = (:version - 1) & 0xffffffff";
    fail::unless_none(write(conn, UPDATE, client)?, Conflict::ClientChanged)
}

pub(in crate::sqlite) fn delete(conn: &Connection, id: &ClientId) -> Result<()> {
    conn.prepare_cached("DELETE FROM clients WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

fn write(conn: &Connection, sql: &str, client: &Client) -> rusqlite::Result<usize> {
    let rights = Rights {
        audience: client.audience.clone(),
        scope: client.scope.clone(),
        claims: client.claims.clone(),
        origins: client.origins.clone(),
    };
    conn.prepare_cached(sql)?.execute(named_params! {
        ":id": client.id.as_str(),
        ":version": client.version,
        ":disabled": client.disabled,
        ":name": client.name,
        ":secret_hash": client.secret_hash.map(|hash| hash.0),
        ":policy": client.policy.as_str(),
        ":algorithm": client.algorithm,
        ":introspect": client.introspect,
        ":rights": serde_json::to_string(&rights).expect("lists of texts are JSON"),
        ":created_at": client.created_at.millis(),
        ":updated_at": client.updated_at.millis(),
    })
}

fn list(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Client>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<Client> {
    let mut c = Columns::of(row);
    let (id, version, disabled): (ClientId, _, _) = (c.parse("client id")?, c.take()?, c.take()?);
    let (name, secret_hash) = (c.take()?, c.take::<Option<[u8; 32]>>()?.map(SecretHash));
    let (policy, algorithm, introspect) = (c.parse("policy name")?, c.take()?, c.take()?);
    let (created_at, updated_at) = (c.time()?, c.time()?);
    let json: Box<str> = c.take()?;
    let rights: Rights =
        serde_json::from_str(&json).map_err(|e| Fail::corrupt(format!("client {id}: {e}")))?;
    Ok(Client {
        id,
        name,
        secret_hash,
        policy,
        audience: rights.audience,
        scope: rights.scope,
        claims: rights.claims,
        origins: rights.origins,
        algorithm,
        introspect,
        disabled,
        version,
        created_at,
        updated_at,
    })
}
