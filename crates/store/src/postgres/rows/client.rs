//! Clients.

use super::{Columns, sql_limit};
use crate::Conflict;
use crate::postgres::fail::{self, Fail, Result};
use crate::postgres::pool::{self, Param};
use reseal_core::claims::Projection;
use reseal_core::client::SecretHash;
use reseal_core::{Client, ClientId, Scope};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

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

pub(in crate::postgres) async fn by_id(client: &pool::Client, id: ClientId) -> Result<Option<Client>> {
    let row = client.query_opt(select!("WHERE id = $1"), &[&id.as_str()]).await?;
    row.as_ref().map(read).transpose()
}

pub(in crate::postgres) async fn page(
    client: &pool::Client,
    after: Option<ClientId>,
    limit: usize,
) -> Result<Vec<Client>> {
    let after = after.as_ref().map_or("", ClientId::as_str);
    let params: [Param<'_>; 2] = [&after, &sql_limit(limit)];
    client.query(select!("WHERE id > $1 ORDER BY id LIMIT $2"), &params).await?.iter().map(read).collect()
}

pub(in crate::postgres) async fn insert(client: &pool::Client, record: &Client) -> Result<()> {
    const INSERT: &str = "INSERT INTO clients (id, version, disabled, name, secret_hash, policy, algorithm,
        introspect, rights, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO NOTHING";
    fail::unless_none(write(client, INSERT, record, 11).await?, Conflict::ClientExists)
}

/// Replaces the record of the version before.
pub(in crate::postgres) async fn replace(client: &pool::Client, record: &Client) -> Result<()> {
    const UPDATE: &str = "UPDATE clients SET version = $2, disabled = $3, name = $4, secret_hash = $5,
        policy = $6, algorithm = $7, introspect = $8, rights = $9, created_at = $10, updated_at = $11
        WHERE id = $1 AND version = $12";
    fail::unless_none(write(client, UPDATE, record, 12).await?, Conflict::ClientChanged)
}

pub(in crate::postgres) async fn delete(client: &pool::Client, id: &ClientId) -> Result<()> {
    client.execute("DELETE FROM clients WHERE id = $1", &[&id.as_str()]).await.map(drop)
}

async fn write(client: &pool::Client, sql: &'static str, record: &Client, used: usize) -> Result<u64> {
    let rights = Rights {
        audience: record.audience.clone(),
        scope: record.scope.clone(),
        claims: record.claims.clone(),
        origins: record.origins.clone(),
    };
    let params: [Param<'_>; 12] = [
        &record.id.as_str(),
        &record.version.cast_signed(),
        &record.disabled,
        &record.name,
        &record.secret_hash.as_ref().map(|hash| &hash.0[..]),
        &record.policy.as_str(),
        &record.algorithm,
        &record.introspect,
        &serde_json::to_string(&rights).expect("lists of texts are JSON"),
        &record.created_at.millis(),
        &record.updated_at.millis(),
        &record.version.wrapping_sub(1).cast_signed(),
    ];
    client.execute(sql, &params[..used]).await
}

fn read(row: &Row) -> Result<Client> {
    let mut c = Columns::of(row);
    let (id, version, disabled): (ClientId, _, _) = (c.parse("client id")?, c.u32()?, c.take()?);
    let (name, secret_hash) = (c.take()?, c.bytes32_if_any()?.map(SecretHash));
    let (policy, algorithm, introspect) = (c.parse("policy name")?, c.take()?, c.take()?);
    let (created_at, updated_at) = (c.time()?, c.time()?);
    let json: &str = c.take()?;
    let rights: Rights =
        serde_json::from_str(json).map_err(|e| Fail::corrupt(format!("client {id}: {e}")))?;
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
