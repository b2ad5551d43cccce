//! Bad days: what was answered is there afterwards, and nothing else is half there.

use super::*;
use crate::{CommitError, Store, StoreError, Write, decide};
use reseal_core::event::{Event, EventKind};
use reseal_core::session::Change;
use reseal_core::{SessionId, TimelineEntry, TimelineKind, User};

pub async fn everything_survives_reopening<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 0).await;
    for i in 0..50 {
        work(&*store, &user, i).await.unwrap();
    }
    let store = reopen(&engine, store).await;
    for i in 0..50 {
        assert_eq!(found(&*store, i).await, ALL, "commit {i}");
    }
    assert_eq!(store.last_event().await.unwrap(), 50);
    store.check().await.unwrap();
}

pub async fn what_was_answered_survives_a_full_disk<E: Engine>(engine: E) {
    let refused = survive(engine, Fault::DiskFull).await;
    assert!(refused.iter().all(|error| matches!(error, StoreError::Full(_))), "{refused:?}");
}

pub async fn what_was_answered_survives_a_disk_that_cannot_be_written<E: Engine>(engine: E) {
    survive(engine, Fault::ReadOnly).await;
}

pub async fn what_was_answered_survives_commits_that_fail<E: Engine>(engine: E) {
    survive(engine, Fault::CommitFails).await;
}

pub async fn a_decision_that_panics_fails_alone<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (user, session) = with_session(&*store, 0).await;
    let results = at_once(20, |i| {
        let (store, user, id) = (Arc::clone(&store), user.clone(), session.id);
        async move {
            if i % 2 == 0 {
                return work(&*store, &user, i + 1).await.is_ok();
            }
            let decided =
                decide(&*store, id, UNTIL, |_: &crate::Snapshot| -> ((), Change) { panic!("on purpose") });
            decided.await.is_ok()
        }
    });
    for (i, done) in results.await.into_iter().enumerate() {
        assert_eq!(done, i % 2 == 0, "task {i}");
        assert_eq!(found(&*store, i + 1).await, [i % 2 == 0; 4], "task {i}");
    }
    assert_eq!(store.session(session.id).await.unwrap().unwrap().session, session);
    work(&*store, &user, 100).await.unwrap();
}

/// Works before, during and after the fault, from several tasks; what was refused during it is returned.
async fn survive<E: Engine>(engine: E, fault: Fault) -> Vec<StoreError> {
    const BEFORE: usize = 20;
    const DURING: usize = 400;
    let store = open(&engine).await;
    let user = with_user(&*store, 0).await;
    for i in 0..BEFORE {
        work(&*store, &user, i).await.unwrap();
    }
    if !engine.inject(&store, fault).await {
        return Vec::new();
    }
    let outcomes = at_once(16, |task| {
        let (store, user) = (Arc::clone(&store), user.clone());
        async move {
            let mut outcomes = Vec::new();
            for i in (BEFORE + task..BEFORE + DURING).step_by(16) {
                outcomes.push((i, work(&*store, &user, i).await));
            }
            outcomes
        }
    });
    let outcomes: Vec<_> = outcomes.await.into_iter().flatten().collect();
    assert_eq!(outcomes.len(), DURING);
    assert_eq!(found(&*store, 0).await, ALL, "reads go on");
    assert!(fault == Fault::DiskFull || store.check().await.is_err(), "it does not say that all is well");
    assert!(engine.inject(&store, Fault::None).await);
    for i in 0..BEFORE {
        work(&*store, &user, 10_000 + i).await.expect("all is well again");
    }
    store.check().await.unwrap();
    let store = reopen(&engine, store).await;
    for i in (0..BEFORE).chain(10_000..10_000 + BEFORE) {
        assert_eq!(found(&*store, i).await, ALL, "commit {i}");
    }
    let mut refused = Vec::new();
    for (i, outcome) in outcomes {
        let found = found(&*store, i).await;
        match outcome {
            Ok(()) => assert_eq!(found, ALL, "commit {i} was acknowledged"),
            Err(CommitError::Store(error)) => {
                assert!(found == ALL || found == [false; 4], "commit {i} is half there: {found:?}");
                refused.push(error);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(!refused.is_empty(), "the fault had no effect");
    let events = store.events_after(0, 10_000).await.unwrap();
    assert_eq!(store.last_event().await.unwrap(), u64::try_from(events.len()).unwrap(), "no gap");
    refused
}

const ALL: [bool; 4] = [true; 4];

/// A commit that leaves four traces.
async fn work(store: &dyn Store, user: &User, i: usize) -> Result<(), CommitError> {
    let session = session(i, user);
    let line = TimelineEntry { session_id: session.id, at: NOW, kind: TimelineKind::Started, ip: session.ip };
    let kind = EventKind::SessionEnded { sid: session.id, reason: reseal_core::EndReason::SignedOut };
    let meta = Write::PutMeta(name(session.id), vec![1; 1000]);
    commit(store, [start(&session), Write::Timeline(line), Write::Log(Event { kind, until: UNTIL }), meta])
        .await
}

/// Which of the four are there.
async fn found(store: &dyn Store, i: usize) -> [bool; 4] {
    let id = session_id(i);
    let events = store.events_after(0, 10_000).await.unwrap();
    let told = |kind: &EventKind| matches!(kind, EventKind::SessionEnded { sid, .. } if *sid == id);
    [
        store.session(id).await.unwrap().is_some(),
        !store.timeline(id).await.unwrap().is_empty(),
        events.iter().any(|logged| told(&logged.event.kind)),
        store.meta(&name(id)).await.unwrap().is_some(),
    ]
}

fn name(id: SessionId) -> String {
    format!("work {id}")
}
