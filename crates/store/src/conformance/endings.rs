//! Ending sessions together.

use super::*;
use crate::{EndFilter, EndSessions, Store, Write};
use reseal_core::{EndReason, EventKind, Session, SessionId, TimelineKind};
use std::collections::BTreeSet;
use std::time::Duration;

fn end(filter: EndFilter) -> EndSessions {
    EndSessions {
        filter,
        reason: EndReason::Revoked,
        now: NOW + Duration::from_secs(60),
        ip: Some("2001:db8::7".parse().unwrap()),
        event_until: UNTIL,
    }
}

/// The sessions that the log tells have ended, each once.
async fn told(store: &dyn Store) -> BTreeSet<SessionId> {
    let events = store.events_after(0, 10_000).await.unwrap();
    let count = events.len();
    let ids: BTreeSet<_> = events
        .into_iter()
        .map(|e| match e.event.kind {
            EventKind::SessionEnded { sid, .. } => sid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids.len(), count, "one event for each");
    ids
}

async fn is_open(store: &dyn Store, id: SessionId) -> bool {
    store.session(id).await.unwrap().unwrap().session.ended.is_none()
}

pub async fn ending_one_session_writes_one_event_and_one_line<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let (_, other) = with_session(&*store, 2).await;
    let order = end(EndFilter::One(session.id));
    commit(&*store, [Write::EndSessions(order.clone())]).await.unwrap();
    let found = store.session(session.id).await.unwrap().unwrap().session;
    let expected = session.end(order.reason, order.now, order.ip).unwrap();
    assert_eq!(Some(found), expected.session, "as the rule of core has it");
    assert_eq!(store.timeline(session.id).await.unwrap(), expected.timeline);
    assert_eq!(told(&*store).await, [session.id].into());
    assert_eq!(store.events_after(0, 1).await.unwrap()[0].event.until, UNTIL);
    assert!(is_open(&*store, other.id).await);
    assert_eq!(store.end_sessions(end(EndFilter::One(session_id(99)))).await.unwrap(), 0, "no such session");
}

pub async fn ending_a_users_sessions_spares_the_one_that_is_excepted<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let (_, foreign) = with_session(&*store, 1000).await;
    // More than any page.
    let all: Vec<Session> = (0..700).map(|i| session(i, &user)).collect();
    commit(&*store, all.iter().map(start)).await.unwrap();
    let kept = all[300].id;
    let order = end(EndFilter::User { user: user.id, except: Some(kept) });
    commit(&*store, [Write::EndSessions(order)]).await.unwrap();
    let ended: BTreeSet<_> = all.iter().map(|s| s.id).filter(|id| *id != kept).collect();
    assert_eq!(told(&*store).await, ended);
    assert!(is_open(&*store, kept).await && is_open(&*store, foreign.id).await);
    for session in &all {
        let last = store.timeline(session.id).await.unwrap().pop().map(|line| line.kind);
        let expected = (session.id != kept).then_some(TimelineKind::Ended(EndReason::Revoked));
        assert_eq!(last, expected);
    }
    let rest = store.end_sessions(end(EndFilter::User { user: user.id, except: None })).await.unwrap();
    assert_eq!(rest, 1);
    assert_eq!(
        store.end_sessions(end(EndFilter::User { user: user_id(77), except: None })).await.unwrap(),
        0
    );
}

pub async fn sessions_that_have_run_out_are_ended_too<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let mut session = session(1, &user);
    session.idle_expires_at = NOW;
    commit(&*store, [start(&session)]).await.unwrap();
    let order = end(EndFilter::User { user: user.id, except: None });
    assert!(order.now > session.idle_expires_at);
    assert_eq!(store.end_sessions(order).await.unwrap(), 1);
    let ended = store.session(session.id).await.unwrap().unwrap().session.ended.unwrap();
    assert_eq!(ended.reason, EndReason::Revoked);
}

pub async fn a_client_s_sessions_end_in_batches<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let of = |i: usize, client: &str| Session { client_id: client.parse().unwrap(), ..session(i, &user) };
    let own: Vec<_> = (0..250).map(|i| of(i, "app")).collect();
    let others: Vec<_> = (1000..1010).map(|i| of(i, "web")).collect();
    commit(&*store, own.iter().chain(&others).map(start)).await.unwrap();
    let order = || end(EndFilter::Client { client: "app".parse().unwrap(), limit: 100 });
    commit(&*store, [Write::EndSessions(order())]).await.unwrap();
    assert_eq!(told(&*store).await.len(), 100);
    let mut counts = Vec::new();
    while counts.last() != Some(&0) {
        counts.push(store.end_sessions(order()).await.unwrap());
    }
    assert_eq!(counts, [100, 50, 0]);
    assert_eq!(told(&*store).await, own.iter().map(|s| s.id).collect());
    for other in others {
        assert!(is_open(&*store, other.id).await);
    }
    let unknown = EndFilter::Client { client: "nobody".parse().unwrap(), limit: 100 };
    assert_eq!(store.end_sessions(end(unknown)).await.unwrap(), 0);
}

pub async fn all_sessions_end_in_batches<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let mut all = BTreeSet::new();
    for i in 0..5 {
        let user = with_user(&*store, i).await;
        for k in 0..50 {
            let client = format!("client{}", k % 7).parse().unwrap();
            let session = Session { client_id: client, ..session(100 * i + k, &user) };
            all.insert(session.id);
            commit(&*store, [start(&session)]).await.unwrap();
        }
    }
    let mut counts = Vec::new();
    while counts.last() != Some(&0) {
        counts.push(store.end_sessions(end(EndFilter::All { limit: 60 })).await.unwrap());
    }
    assert_eq!(counts, [60, 60, 60, 60, 10, 0]);
    assert_eq!(told(&*store).await, all);
}

pub async fn ending_what_has_ended_changes_nothing<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let mut order = end(EndFilter::One(session.id));
    assert_eq!(store.end_sessions(order.clone()).await.unwrap(), 1);
    let before = store.session(session.id).await.unwrap();
    order.reason = EndReason::SignedOut;
    assert_eq!(store.end_sessions(order.clone()).await.unwrap(), 0);
    order.filter = EndFilter::User { user: session.user_id, except: None };
    commit(&*store, [Write::EndSessions(order)]).await.unwrap();
    assert_eq!(store.session(session.id).await.unwrap(), before, "the first reason stays");
    assert_eq!(told(&*store).await.len(), 1);
    assert_eq!(store.timeline(session.id).await.unwrap().len(), 1);
}
