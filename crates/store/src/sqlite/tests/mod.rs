//! What only this engine does, and the conformance suite run against it.

mod crash;
mod maintenance;
mod opening;
mod queue;
mod restoring;
mod size;
mod two_processes;

use super::*;
use crate::conformance::{Engine, Fault};
use tempfile::TempDir;

struct Sqlite(TempDir);

impl Engine for Sqlite {
    type Store = SqliteStore;

    fn create() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(self.0.path(), SqliteOptions::default()).unwrap()
    }

    async fn inject(&self, store: &SqliteStore, fault: Fault) -> bool {
        store.inject(fault).await.unwrap();
        true
    }
}

mod conformance {
    crate::conformance_tests!(super::Sqlite);
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &Path, access: Access) -> SqliteStore {
    SqliteStore::open(folder, SqliteOptions { access, ..SqliteOptions::default() }).unwrap()
}

/// A connection behind the store's back.
fn raw(folder: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.join("reseal.db")).unwrap()
}
