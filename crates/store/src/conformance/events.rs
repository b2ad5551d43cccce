//! The event log: whole, in order, without a gap.

use super::*;
use crate::{CommitError, Store, Write};
use reseal_core::event::{Event, EventKind};
use reseal_core::timeline::TimelineEntry;
use reseal_core::{EndReason, TimelineKind};
use std::time::Duration;

fn changed(client: &str) -> Write {
    Write::Log(Event {
        kind: EventKind::ClientChanged { client_id: client.parse().unwrap(), before: 7 },
        until: UNTIL,
    })
}

pub async fn every_kind_of_event_comes_back<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let mut kinds: Vec<EventKind> = EndReason::ALL
        .iter()
        .map(|reason| EventKind::SessionEnded { sid: session_id(1), reason: *reason })
        .collect();
    kinds.push(EventKind::ClaimsChanged { sub: user_id(1), rev: u64::MAX });
    kinds.push(EventKind::ClientChanged { client_id: "web".parse().unwrap(), before: i64::MAX });
    kinds.push(EventKind::KeysChanged { withdrawn: vec!["a".to_owned(), "b".to_owned()] });
    kinds.push(EventKind::KeysChanged { withdrawn: vec![] });
    let event = |kind: &EventKind| Event { kind: kind.clone(), until: UNTIL };
    commit(&*store, kinds.iter().map(|kind| Write::Log(event(kind)))).await.unwrap();
    let store = reopen(&engine, store).await;
    let found = store.events_after(0, 100).await.unwrap();
    assert!(found.iter().zip(1..).all(|(logged, seq)| logged.seq == seq));
    let found: Vec<_> = found.into_iter().map(|logged| logged.event).collect();
    assert_eq!(found, kinds.iter().map(event).collect::<Vec<_>>());
    let page = store.events_after(3, 2).await.unwrap();
    assert_eq!(page.iter().map(|e| e.seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(store.events_after(u64::MAX, 2).await.unwrap(), []);
}

/// A reader that follows the log while others write must never pass an event by.
pub async fn events_come_in_commit_order_without_a_gap<E: Engine>(engine: E) {
    const WRITERS: usize = 12;
    const COMMITS: usize = 40;
    let store = open(&engine).await;
    let reader = |store: Arc<E::Store>| async move {
        let (mut seen, mut last) = (Vec::new(), 0);
        while seen.len() < WRITERS * COMMITS * 2 {
            for logged in store.events_after(last, 7).await.unwrap() {
                assert_eq!(logged.seq, last + 1, "a gap");
                last = logged.seq;
                let EventKind::ClientChanged { client_id, .. } = logged.event.kind else { panic!() };
                seen.push(client_id.to_string());
            }
            tokio::task::yield_now().await;
        }
        seen
    };
    let readers = [tokio::spawn(reader(Arc::clone(&store))), tokio::spawn(reader(Arc::clone(&store)))];
    let written = at_once(WRITERS, |w| {
        let store = Arc::clone(&store);
        async move {
            for c in 0..COMMITS {
                let doomed = [changed("undone"), Write::TakeChallenge { id: challenge_id(1), version: 1 }];
                let undone = commit(&*store, doomed).await;
                assert!(matches!(undone, Err(CommitError::Conflict(_))));
                let name = format!("{w}.{c}");
                commit(&*store, [changed(&name), changed(&name)]).await.unwrap();
            }
        }
    });
    written.await;
    assert_eq!(store.last_event().await.unwrap(), u64::try_from(WRITERS * COMMITS * 2).unwrap());
    for reader in readers {
        let seen = reader.await.unwrap();
        assert!(seen.chunks(2).all(|pair| pair[0] == pair[1]), "events of one commit stay together");
        for w in 0..WRITERS {
            let own: Vec<_> =
                seen.iter().filter(|name| name.starts_with(&format!("{w}."))).step_by(2).collect();
            let expected: Vec<_> = (0..COMMITS).map(|c| format!("{w}.{c}")).collect();
            assert!(own.into_iter().eq(&expected), "one writer's commits keep their order");
        }
    }
}

pub async fn a_commit_is_done_whole_or_not_at_all<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (user, open_session) = with_session(&*store, 1).await;
    let patch = reseal_core::user::UserPatch { disabled: Some(true), ..Default::default() };
    let next = user.patched(&patch, NOW).unwrap().unwrap();
    let line = TimelineEntry { session_id: open_session.id, at: NOW, kind: TimelineKind::Late, ip: None };
    let fine = |store: Arc<E::Store>, last: Option<Write>| {
        let mut writes = vec![
            start(&session(2, &user)),
            Write::SwapSession(Box::new(
                open_session.end(EndReason::Revoked, NOW, None).unwrap().session.unwrap(),
            )),
            Write::SwapUser(Box::new(next.clone()), Some(secrets("next"))),
            Write::CreateUser(Box::new(super::user(3)), secrets("x")),
            Write::CreateClient(Box::new(client("web"))),
            Write::CreateChallenge(Box::new(challenge(1))),
            Write::Timeline(line.clone()),
            changed("web"),
            Write::PutMeta("mark".to_owned(), b"1".to_vec()),
        ];
        writes.extend(last);
        async move { commit(&*store, writes).await }
    };
    let failing = [
        start(&session(1, &user)),
        Write::SwapSession(Box::new(session(9, &user))),
        Write::CreateUser(Box::new(user.clone()), secrets("x")),
        Write::SwapUser(Box::new(user.clone()), None),
        Write::DeleteUser { user: user.id, version: 7, at: NOW },
        Write::CreateClient(Box::new(client("web"))),
        Write::SwapClient(Box::new(client("other"))),
        Write::CreateChallenge(Box::new(challenge(1))),
        Write::SwapChallenge(Box::new(challenge(2))),
        Write::TakeChallenge { id: challenge_id(2), version: 1 },
    ];
    for last in failing {
        let result = fine(Arc::clone(&store), Some(last.clone())).await;
        assert!(matches!(result, Err(CommitError::Conflict(_))), "{last:?}: {result:?}");
        assert_eq!(store.session(session_id(2)).await.unwrap(), None);
        let found = store.session(open_session.id).await.unwrap().unwrap();
        assert_eq!((&found.session, &*found.user), (&open_session, &user));
        assert_eq!(store.user_secrets(user.id).await.unwrap(), Some((user.clone(), secrets("first"))));
        assert_eq!(store.user(user_id(3)).await.unwrap(), None);
        assert_eq!(store.client(&"web".parse().unwrap()).await.unwrap(), None);
        assert_eq!(store.challenge(&challenge_id(1)).await.unwrap(), None);
        assert_eq!(store.timeline(open_session.id).await.unwrap(), []);
        assert_eq!(store.last_event().await.unwrap(), 0);
        assert_eq!(store.meta("mark").await.unwrap(), None);
    }
    fine(Arc::clone(&store), None).await.unwrap();
    assert!(store.session(session_id(2)).await.unwrap().is_some());
    assert_eq!(store.events_after(0, 10).await.unwrap().len(), 1, "and no number was lost");
    assert_eq!(store.last_event().await.unwrap(), 1);
    commit(&*store, []).await.unwrap();
}

pub async fn the_number_of_an_event_is_never_given_twice<E: Engine>(engine: E) {
    let store = open(&engine).await;
    commit(&*store, [changed("a"), changed("b"), changed("c")]).await.unwrap();
    let swept = store.sweep(UNTIL + Duration::from_secs(1), NOW, 100).await.unwrap();
    assert_eq!(swept.events, 3);
    assert_eq!(store.events_after(0, 10).await.unwrap(), []);
    assert_eq!(store.last_event().await.unwrap(), 3);
    let store = reopen(&engine, store).await;
    assert_eq!(store.last_event().await.unwrap(), 3);
    commit(&*store, [changed("d")]).await.unwrap();
    assert_eq!(store.events_after(3, 10).await.unwrap()[0].seq, 4);
}

pub async fn whoever_waits_for_the_log_is_told_of_what_was_committed<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (user, session) = with_session(&*store, 1).await;
    let mut told = store.log_changed();
    told.mark_unchanged();
    let late = store.log_changed();
    let quiet = [Write::PutMeta("mark".to_owned(), b"1".to_vec()), start(&super::session(2, &user))];
    commit(&*store, quiet).await.unwrap();
    assert!(!told.has_changed().unwrap(), "nothing was logged");

    let end = |id| crate::EndSessions {
        filter: crate::EndFilter::One(id),
        reason: EndReason::Revoked,
        now: NOW,
        ip: None,
        event_until: UNTIL,
    };
    // Each way to log, told of before its answer.
    commit(&*store, [changed("a")]).await.unwrap();
    assert!(told.has_changed().unwrap());
    assert_eq!(*told.borrow_and_update(), *late.borrow());
    assert_eq!(store.end_sessions(end(session.id)).await.unwrap(), 1);
    assert!(told.has_changed().unwrap());
    told.mark_unchanged();
    let decided = crate::decide(&*store, session_id(2), UNTIL, |s: &crate::Snapshot| {
        ((), s.session.end(EndReason::SignedOut, NOW, None).unwrap())
    });
    decided.await.unwrap().unwrap();
    assert!(told.has_changed().unwrap());
    told.mark_unchanged();

    // A waiting task wakes, and finds the event.
    let reader = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            told.changed().await.unwrap();
            store.last_event().await.unwrap()
        }
    });
    commit(&*store, [changed("b")]).await.unwrap();
    assert_eq!(reader.await.unwrap(), 4);
}
