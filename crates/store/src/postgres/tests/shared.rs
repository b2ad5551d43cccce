//! What nodes share beside the rows: cells, the clock, the order of events.

use super::*;
use crate::conformance::{UNTIL, at_once, commit, session, start, with_user};
use crate::{CellKey, CellUpdate, Write};
use reseal_core::event::{Event, EventKind};

const LATER: i64 = 4_000_000_000_000;

fn key(i: u8) -> CellKey {
    [i; 16]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cells_are_changed_as_if_nobody_else_did() {
    const TASKS: usize = 16;
    const ROUNDS: usize = 10;
    let engine = OnPostgres::create();
    let nodes = [Arc::new(engine.open().await), Arc::new(engine.open().await)];
    let counts = at_once(TASKS, |task| {
        let node = Arc::clone(&nodes[task % 2]);
        async move {
            for _ in 0..ROUNDS {
                // Two at a time, in either order, one shared by all.
                let own = key(u8::try_from(1 + task / 2).unwrap());
                let keys = if task % 2 == 0 { vec![key(0), own] } else { vec![own, key(0)] };
                let decide = Box::new(|values: &[Option<i64>]| {
                    values.iter().map(|value| Some(value.unwrap_or(LATER) + 1)).collect()
                });
                node.update(CellUpdate { keys, decide }).await.unwrap();
            }
        }
    });
    counts.await;
    let values = Cells::read(&*nodes[1], &[key(0), key(1), key(99)]).await.unwrap();
    let added = |n: usize| Some(LATER + i64::try_from(n).unwrap());
    assert_eq!(values, [added(TASKS * ROUNDS), added(2 * ROUNDS), None]);
    assert!(nodes[0].cells().is_some());
}

#[tokio::test]
async fn a_cell_that_is_only_looked_at_is_not_made_and_a_spent_one_is_swept() {
    let engine = OnPostgres::create();
    let store = engine.open().await;
    let seen = |value: Option<i64>, keys: Vec<CellKey>| CellUpdate {
        decide: Box::new(move |values| {
            assert!(values.iter().all(Option::is_none));
            let mut new = vec![None; values.len()];
            new[0] = value;
            new
        }),
        keys,
    };
    store.update(seen(None, vec![key(1), key(2)])).await.unwrap();
    store.update(seen(Some(LATER), vec![key(3), key(4)])).await.unwrap();
    store.update(seen(Some(1_000), vec![key(5)])).await.unwrap();
    assert_eq!(engine.sql("SELECT count(*) FROM cells"), "2");
    store.sweep(crate::conformance::NOW, crate::conformance::NOW, 100).await.unwrap();
    assert_eq!(Cells::read(&store, &[key(3), key(5)]).await.unwrap(), [Some(LATER), None]);
    let too_many = Cells::read(&store, &vec![key(1); 5000]).await;
    assert!(matches!(too_many, Err(StoreError::Internal(_))));
    // One that panics changes nothing and breaks nothing.
    let panics = CellUpdate { keys: vec![key(3)], decide: Box::new(|_| panic!("on purpose")) };
    store.update(panics).await.unwrap_err();
    assert_eq!(Cells::read(&store, &[key(3)]).await.unwrap(), [Some(LATER)]);
}

#[tokio::test]
async fn the_clock_is_the_database_s() {
    let engine = OnPostgres::create();
    let store = engine.open().await;
    let theirs =
        || engine.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").parse().unwrap();
    let before: i64 = theirs();
    let ours = store.time().await.unwrap().unwrap().millis();
    let after: i64 = theirs();
    assert!((before - 1..=after + 1).contains(&ours), "{before} {ours} {after}");
}

/// A reader at one node, writers at others, and each event comes once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_at_one_node_misses_nothing_that_others_log() {
    const WRITERS: usize = 8;
    const COMMITS: usize = 50;
    let engine = OnPostgres::create();
    let nodes = [Arc::new(engine.open().await), Arc::new(engine.open().await), Arc::new(engine.open().await)];
    let reader = Arc::clone(&nodes[0]);
    let reader = tokio::spawn(async move {
        let (mut last, mut seen) = (0, Vec::new());
        while seen.len() < WRITERS * COMMITS {
            for logged in reader.events_after(last, 50).await.unwrap() {
                assert_eq!(logged.seq, last + 1, "a gap");
                last = logged.seq;
                let EventKind::ClientChanged { client_id, before } = logged.event.kind else { panic!() };
                seen.push((client_id.to_string(), before));
            }
            tokio::task::yield_now().await;
        }
        seen
    });
    let written = at_once(WRITERS, |w| {
        let node = Arc::clone(&nodes[1 + w % 2]);
        async move {
            for c in 0..COMMITS {
                let before = i64::try_from(c).unwrap();
                let kind = EventKind::ClientChanged { client_id: format!("w{w}").parse().unwrap(), before };
                commit(&*node, [Write::Log(Event { kind, until: UNTIL })]).await.unwrap();
            }
        }
    });
    written.await;
    let seen = reader.await.unwrap();
    for w in 0..WRITERS {
        let own: Vec<i64> =
            seen.iter().filter(|(name, _)| *name == format!("w{w}")).map(|(_, before)| *before).collect();
        assert!(own.into_iter().eq(0..i64::try_from(COMMITS).unwrap()), "writer {w}");
    }
}

/// A server that takes over may lack the newest texts of the one before, and give their numbers to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_of_texts_are_asked_for_again_when_the_server_may_be_another() {
    let engine = OnPostgres::create();
    let (store, other) = (engine.open().await, engine.open().await);
    let user = with_user(&store, 1).await;
    let session = |i: usize, scope: &str| Session {
        scope: scope.parse().unwrap(),
        user_agent: Some("a browser".to_owned()),
        ..session(i, &user)
    };
    commit(&store, [start(&session(1, "read"))]).await.unwrap();
    // As if they had been lost, and another had got the number of one.
    engine.sql(
        "UPDATE texts SET text = 'write' WHERE text = 'read'; DELETE FROM texts WHERE user_agent;
        DELETE FROM sessions;
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let (first, second) = (session(2, "read"), session(3, "write"));
    for session in [&first, &second] {
        let started = async {
            while commit(&store, [start(session)]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), started).await.unwrap();
    }
    for session in [first, second] {
        for node in [&store, &other] {
            assert_eq!(node.session(session.id).await.unwrap().unwrap().session, session);
        }
    }
}
