//! What only this engine does, and the conformance suite run against it, with a real Redis.

mod cluster;
mod deadlines;
mod losses;
mod outages;
mod over_postgres;
mod single;

use super::*;
use crate::Access;
use crate::conformance::{Engine, Fault, NOW, UNTIL, policy, ring};
use crate::decide;
use crate::sqlite::{SqliteOptions, SqliteStore};
use reseal_core::credential::RefreshToken;
use reseal_core::refresh::{Issued, OnRollback, Outcome, Presenter, rotate};
use reseal_test_servers as servers;
use std::path::Path;
use tempfile::TempDir;

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
    // Without the folder's lock: tasks of a store that was dropped may hold it a moment longer, and some tests
    // open a second node.
    let (access, timeout) = (Access::Tool, Duration::from_secs(60));
    let options = SqliteOptions { access, timeout, ..SqliteOptions::default() };
    Arc::new(SqliteStore::open(folder, options).unwrap())
}

/// A server and a folder behind it.
struct Place {
    folder: TempDir,
    redis: servers::Redis,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), redis: server() }
    }

    /// One more node on it.
    async fn node(&self) -> Arc<RedisStore<SqliteStore>> {
        self.node_with(|_| {}).await
    }

    async fn node_with(&self, change: impl FnOnce(&mut RedisOptions)) -> Arc<RedisStore<SqliteStore>> {
        let mut options = options(vec![self.redis.url()]);
        change(&mut options);
        Arc::new(RedisStore::open(options, sqlite(self.folder.path())).await.unwrap())
    }
}

impl<B: Backing> RedisStore<B> {
    /// The bytes that lie in Redis of a session.
    async fn bytes(&self, id: SessionId) -> Option<Vec<u8>> {
        let row = self.inner.with_link(async |link| link.rows(&[id]).await.pop()).await.unwrap();
        row.unwrap().unwrap().map(|stored| stored.0)
    }

    /// Puts these bytes there, as a failover would that lost what came after.
    async fn put_bytes(&self, id: SessionId, bytes: &[u8]) {
        let (slot, key) = keys::session_key(id);
        let node = self.inner.nodes.map().node(slot).unwrap().clone();
        let mut command = ::redis::cmd("SET");
        command.arg(key).arg(bytes).arg("EX").arg(100_000);
        self.inner.nodes.tell::<()>(&node, &command).await.unwrap();
    }

    fn crash_before_apply(&self, crash: bool) {
        self.inner.crash_before_apply.store(crash, Ordering::Relaxed);
    }
}

/// What a client gets for a refresh token, `secs` after the start: its successor, or nothing.
async fn present(
    store: &dyn Store,
    token: RefreshToken,
    secs: u64,
) -> Result<Option<(RefreshToken, Issued)>, StoreError> {
    let now = NOW + Duration::from_secs(secs);
    let decided = decide(store, token.session_id, UNTIL, move |s: &Snapshot| {
        let presenter = Presenter { ip: s.session.ip, user_agent: s.session.user_agent.as_deref() };
        match rotate(&s.session, policy(), &token, OnRollback::Advance, (now, presenter)) {
            Outcome::Issue { session, how, change } => {
                (Some((ring().successor(&session).unwrap(), how)), change)
            }
            Outcome::Superseded { change } | Outcome::Reuse { change } => (None, change),
            Outcome::Over(_) => (None, Change::default()),
        }
    });
    Ok(decided.await?.flatten())
}

/// Renews so often, 30 s apart from `secs` on; the newest token.
async fn renew(store: &dyn Store, token: RefreshToken, secs: u64, times: u64) -> RefreshToken {
    let mut token = token;
    for i in 0..times {
        token = present(store, token, secs + 30 * i).await.unwrap().expect("nobody is logged out").0;
    }
    token
}
