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

/// Both at once: the database hangs, and Redis comes back with what it had before, or with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_while_redis_forgets_costs_nothing_but_time() {
    let server = servers::Postgres::start(servers::PgOptions { fsync: false, ..Default::default() });
    let database = server.database();
    let (redis, store) = &server_and_node(&database).await;
    let mut sessions = Vec::new();
    for i in 0..3 {
        let (_, session) = crate::conformance::with_session(store, i).await;
        let token = renew(store, ring().successor(&session).unwrap(), 30, 3).await;
        sessions.push((session.id, token, store.bytes(session.id).await.unwrap()));
    }
    let [live, ended, stronger] = &sessions[..] else { panic!() };
    let end = EndSessions {
        filter: crate::EndFilter::One(ended.0),
        reason: reseal_core::EndReason::Revoked,
        now: NOW,
        ip: None,
        event_until: UNTIL,
    };
    assert_eq!(store.end_sessions(end).await.unwrap(), 1);
    let (acr, amr) = (reseal_core::Acr::Aal2, reseal_core::Amr::PWD.union(reseal_core::Amr::SMS));
    let strength = reseal_core::auth::Strength { acr, amr, authenticated_at: NOW };
    let stepped =
        decide(store, stronger.0, UNTIL, move |s: &Snapshot| ((), s.session.step_up(strength, NOW, None)));
    stepped.await.unwrap().unwrap();
    tokio::task::block_in_place(|| server.pause());
    redis.ask(&["FLUSHALL"]);
    for (id, _, bytes) in [ended, stronger] {
        store.put_bytes(*id, bytes).await;
    }
    let ask = |i: usize| present(store, sessions[i].1, 600);
    let (first, second, third, read) = tokio::join!(ask(0), ask(1), ask(2), store.session(ended.0));
    for refused in [first, second, third] {
        assert!(matches!(refused, Err(StoreError::Unavailable(_) | StoreError::Busy { .. })), "{refused:?}");
    }
    assert!(read.is_err(), "nobody knows");
    tokio::task::block_in_place(|| server.resume());
    for (_, token, _) in [live, stronger] {
        let next = loop {
            match present(store, *token, 700).await {
                Ok(answer) => break answer.expect("nobody is logged out").0,
                Err(StoreError::Unavailable(_) | StoreError::Busy { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(next.number, token.number + 1);
    }
    assert_eq!(store.session(stronger.0).await.unwrap().unwrap().session.strength, strength);
    assert_eq!(present(store, ended.1, 700).await.unwrap(), None);
    assert!(store.session(ended.0).await.unwrap().unwrap().session.ended.is_some());
}

async fn server_and_node(database: &servers::Database<'_>) -> (servers::Redis, RedisStore<PostgresStore>) {
    let postgres = PostgresOptions {
        timeout: Duration::from_secs(2),
        ..PostgresOptions::new(database.url().parse().unwrap())
    };
    let postgres = Arc::new(PostgresStore::open(postgres).await.unwrap());
    let redis = server();
    let store = RedisStore::open(options(vec![redis.url()]), postgres).await.unwrap();
    (redis, store)
}
