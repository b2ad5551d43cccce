//! The conformance suite over PostgreSQL, with a single server of Redis.

use super::*;
use crate::postgres::{PostgresOptions, PostgresStore};

struct OverPostgres {
    database: servers::Database<'static>,
    redis: servers::Redis,
}

impl Engine for OverPostgres {
    type Store = RedisStore<PostgresStore>;

    fn create() -> Self {
        Self { database: servers::Postgres::shared().database(), redis: server() }
    }

    async fn open(&self) -> Self::Store {
        let postgres = PostgresOptions {
            timeout: Duration::from_secs(60),
            ..PostgresOptions::new(self.database.url().parse().unwrap())
        };
        let postgres = Arc::new(PostgresStore::open(postgres).await.unwrap());
        RedisStore::open(options(vec![self.redis.url()]), postgres).await.unwrap()
    }

    async fn inject(&self, _: &Self::Store, _: Fault) -> bool {
        // What the backing store does in its bad days is shown over SQLite and by PostgreSQL alone.
        false
    }
}

mod conformance {
    crate::conformance_tests!(super::OverPostgres);
}

/// A deadline that is written back, and a touch that Redis lost.
#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_written_back() {
    let place = OverPostgres::create();
    let store = place.open().await;
    let (_, session) = crate::conformance::with_session(&store, 1).await;
    let behind = async || store.backing().session(session.id).await.unwrap().unwrap().session;
    let day = 86_400;
    let token = renew(&store, ring().successor(&session).unwrap(), day, 3).await;
    assert_eq!(behind().await, session);
    renew(&store, token, 9 * day, 1).await;
    while behind().await == session {
        tokio::task::yield_now().await;
    }
    let current = store.session(session.id).await.unwrap().unwrap().session;
    assert_eq!(behind().await, Session { version: session.version, ..current });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_back_is_the_later_use() {
    deadlines::the_later_use_is_the_one_with_the_higher_number(&OverPostgres::create().open().await).await;
}
