//! What only this engine does.

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
