//! The conformance suite over SQLite, with a single server.

use super::*;

struct OverSqlite {
    folder: TempDir,
    redis: servers::Redis,
}

impl Engine for OverSqlite {
    type Store = RedisStore<SqliteStore>;

    fn create() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), redis: server() }
    }

    async fn open(&self) -> Self::Store {
        RedisStore::open(options(vec![self.redis.url()]), sqlite(self.folder.path())).await.unwrap()
    }

    async fn inject(&self, store: &Self::Store, fault: Fault) -> bool {
        store.backing().inject(fault).await.unwrap();
        true
    }
}

mod conformance {
    crate::conformance_tests!(super::OverSqlite);
}
