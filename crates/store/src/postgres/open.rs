//! Opening a database: everything that may be wrong with it has its own error and damages nothing.

use super::PostgresOptions;
use super::address::{self, Address};
use super::fail::Fail;
use super::known::Known;
use super::pool::{Client, ConnectError, Manager, Pool};
use super::schema::{self, Found};
use crate::{Access, OpenError};
use std::sync::Arc;
use tokio_postgres::error::SqlState;

/// The oldest server that will do, and what it calls itself.
const OLDEST: (u32, &str) = (130_000, "13");

/// A database that is open.
pub(super) struct Opened {
    pub(super) pool: Pool,
    pub(super) known: Arc<Known>,
    pub(super) shown: String,
}

pub(super) async fn open(options: &PostgresOptions) -> Result<Opened, OpenError> {
    let address = address::read(options)?;
    let known = Arc::new(Known::new());
    let manager = Manager::new(&address, options.timeout, Arc::clone(&known))?;
    let client = manager.connect().await.map_err(|error| connect_error(&address, &error))?;
    prepare(&client, &address, options).await?;
    drop(client);
    let pool = Pool::new(manager, options.connections, options.timeout);
    Ok(Opened { pool, known, shown: address.shown })
}

async fn prepare(client: &Client, address: &Address, options: &PostgresOptions) -> Result<(), OpenError> {
    let fail = |fail: Fail| server_error(address, fail);
    check_version(client, address).await?;
    if options.access != Access::ReadOnly {
        check_writable(client, address).await?;
    }
    let found = schema::look(client).await.map_err(fail)?;
    let known = schema::VERSION.unsigned_abs();
    let server = || address.shown.clone();
    match (found, options.access) {
        (Found::Foreign, _) => return Err(OpenError::ForeignTables(server())),
        (Found::Version(found), _) if found > schema::VERSION => {
            return Err(OpenError::NewerSchema { server: server(), found: found.unsigned_abs(), known });
        }
        (Found::Nothing, Access::ReadOnly) => return Err(OpenError::Empty(server())),
        // A tool must not change the tables under servers that are at work on them.
        (Found::Version(found), Access::ReadOnly | Access::Tool) if found < schema::VERSION => {
            return Err(OpenError::OlderSchema { server: server(), found: found.unsigned_abs(), known });
        }
        (Found::Version(found), _) if found == schema::VERSION => {}
        _ => schema::migrate(client).await.map_err(fail)?,
    }
    if options.access != Access::ReadOnly && options.epoch != [0; 16] {
        // A new database gets the epoch of its feed; an old one keeps its own.
        const OFFER: &str = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        let epoch = &options.epoch[..];
        client.execute(OFFER, &[&crate::FEED_EPOCH, &epoch]).await.map_err(fail)?;
    }
    Ok(())
}

async fn check_version(client: &Client, address: &Address) -> Result<(), OpenError> {
    const VERSION: &str = "SELECT current_setting('server_version_num'), current_setting('server_version')";
    let row = client.query_opt(VERSION, &[]).await.map_err(|fail| server_error(address, fail))?;
    let Some(row) = row else { return Ok(()) };
    let number: Option<u32> = row.try_get::<_, &str>(0).ok().and_then(|number| number.parse().ok());
    let found: String = row.try_get(1).unwrap_or_default();
    if number.is_some_and(|number| number < OLDEST.0) {
        return Err(OpenError::OldServer { server: address.shown.clone(), found, needed: OLDEST.1 });
    }
    Ok(())
}

/// A standby may become the primary, so this may go away.
async fn check_writable(client: &Client, address: &Address) -> Result<(), OpenError> {
    const READ_ONLY: &str = "SELECT current_setting('transaction_read_only')";
    let row = client.query_opt(READ_ONLY, &[]).await.map_err(|fail| server_error(address, fail))?;
    if row.is_some_and(|row| row.try_get::<_, &str>(0).is_ok_and(|setting| setting == "on")) {
        let detail =
            "it only reads (a standby?); name all hosts, and the one that writes is taken".to_owned();
        return Err(OpenError::Away { server: address.shown.clone(), detail });
    }
    Ok(())
}

fn connect_error(address: &Address, error: &ConnectError) -> OpenError {
    let (server, detail) = (address.shown.clone(), error.to_string());
    let ConnectError::Pg(pg) = error else { return OpenError::Away { server, detail } };
    match pg.code() {
        None if detail.contains("TLS") || detail.contains("certificate") => OpenError::Tls { server, detail },
        None if detail.starts_with("invalid configuration") => OpenError::Options(detail),
        None => OpenError::Away { server, detail },
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
            OpenError::NoDatabase { server, database: address.database.clone() }
        }
        Some(code) if code.code().starts_with("28") => OpenError::Login { server, detail },
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => OpenError::Rights { server, detail },
        // It starts, stops, or has no room just now.
        Some(code) if code.code().starts_with("57P") || code.code().starts_with("53") => {
            OpenError::Away { server, detail }
        }
        Some(_) => OpenError::Server { server, detail },
    }
}

fn server_error(address: &Address, fail: Fail) -> OpenError {
    let server = address.shown.clone();
    let code = match &fail {
        Fail::Refused(error) => error.code().cloned(),
        Fail::Lost(_) | Fail::Broken(_) | Fail::Away(_) => {
            return OpenError::Away { server, detail: fail.into_store_error().to_string() };
        }
        _ => None,
    };
    let detail = fail.into_store_error().to_string();
    match code {
        Some(code) if code == SqlState::INSUFFICIENT_PRIVILEGE || code == SqlState::INVALID_SCHEMA_NAME => {
            OpenError::Rights { server, detail }
        }
        // A standby: the primary may be back, or become one.
        Some(code) if code == SqlState::READ_ONLY_SQL_TRANSACTION || code.code().starts_with("57P") => {
            OpenError::Away { server, detail }
        }
        _ => OpenError::Server { server, detail },
    }
}
