//! What only this engine does, and the conformance suite run against it, with a real Redis.

mod faults;
mod single;

use super::*;
use crate::Access;
use crate::conformance::{Engine, Fault};
use crate::sqlite::{SqliteOptions, SqliteStore};
use reseal_test_servers as servers;
use std::path::Path;
use tempfile::TempDir;

/// One server for all tests that break nothing: ids are random or in a database of their own.
fn server() -> servers::Redis {
    servers::Redis::start(&servers::RedisOptions::default())
}

fn options(urls: Vec<String>) -> RedisOptions {
    RedisOptions {
        urls: urls.into_iter().map(|url| url.parse().unwrap()).collect(),
        // The machine that runs the tests may be slow.
        timeout: Duration::from_secs(10),
        patience: Duration::from_secs(60),
        ..RedisOptions::default()
    }
}

fn sqlite(folder: &Path) -> Arc<SqliteStore> {
    // Without the folder's lock: tasks of a store that was dropped may hold it a moment longer.
    let (access, timeout) = (Access::Tool, Duration::from_secs(60));
    let options = SqliteOptions { access, timeout, ..SqliteOptions::default() };
    Arc::new(SqliteStore::open(folder, options).unwrap())
}
