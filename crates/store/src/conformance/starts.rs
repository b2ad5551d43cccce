//! What must hold for a session to start.

use super::*;
use crate::{CommitError, Conflict, StartSession, Write};
use reseal_core::user::UserPatch;
use reseal_core::{EndReason, EventKind, Session, Timestamp};
use std::time::Duration;

async fn refused<E: Engine>(store: &E::Store, write: Write) -> Conflict {
    match commit(store, [write]).await {
        Err(CommitError::Conflict(conflict)) => conflict,
        other => panic!("{other:?}"),
    }
}

pub async fn a_session_starts_only_for_a_user_who_may_log_in<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let nobody = user(9);
    assert_eq!(refused::<E>(&store, start(&session(9, &nobody))).await, Conflict::EpochRaised);

    let (user, first) = with_session(&*store, 1).await;
    let patch = UserPatch { disabled: Some(true), ..UserPatch::default() };
    let disabled = user.patched(&patch, NOW).unwrap().unwrap();
    commit(&*store, [Write::SwapUser(Box::new(disabled.clone()), None)]).await.unwrap();
    let at_its_epoch = StartSession {
        session: session(2, &user),
        auth_epoch: disabled.auth_epoch,
        max_sessions: 0,
        event_until: UNTIL,
    };
    let write = Write::StartSession(Box::new(at_its_epoch.clone()));
    assert_eq!(refused::<E>(&store, write.clone()).await, Conflict::EpochRaised, "disabled");

    let ended = first.end(EndReason::UserDisabled, NOW, None).unwrap().session.unwrap();
    let delete = Write::DeleteUser { user: user.id, version: disabled.version, at: NOW };
    commit(&*store, [Write::SwapSession(Box::new(ended)), delete]).await.unwrap();
    assert_eq!(refused::<E>(&store, write).await, Conflict::EpochRaised, "deleted");
    assert_eq!(store.session(session_id(2)).await.unwrap(), None);
}

pub async fn a_session_starts_only_at_the_epoch_its_login_began_with<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let write = start(&session(1, &user));
    let changed = user.with_new_secret(NOW);
    commit(&*store, [Write::SwapUser(Box::new(changed), Some(secrets("second")))]).await.unwrap();
    assert_eq!(refused::<E>(&store, write).await, Conflict::EpochRaised);
    assert_eq!(store.session(session_id(1)).await.unwrap(), None);
}

pub async fn a_session_id_is_used_once<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (user, session) = with_session(&*store, 1).await;
    let other = Session { user_agent: Some("another".to_owned()), ..session.clone() };
    assert_eq!(refused::<E>(&store, start(&other)).await, Conflict::SessionExists);
    let found = store.session(session.id).await.unwrap().unwrap();
    assert_eq!((found.session, &*found.user), (session, &user));
}

pub async fn the_oldest_sessions_make_room_for_a_new_one<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let at = |i: usize| NOW + Duration::from_secs(60 * u64::try_from(i).unwrap());
    let started = |i: usize, max_sessions| {
        let mut session = session(i, &user);
        session.started_at = at(i);
        session.renewed_at = at(i);
        Write::StartSession(Box::new(StartSession {
            session,
            auth_epoch: 3,
            max_sessions,
            event_until: UNTIL,
        }))
    };
    // One that has run out takes no room, and one of another user neither.
    let mut run_out = session(0, &user);
    run_out.idle_expires_at = Timestamp::from_secs(1);
    commit(&*store, [start(&run_out)]).await.unwrap();
    with_session(&*store, 20).await;
    for i in 1..=4 {
        commit(&*store, [started(i, 0)]).await.unwrap();
    }
    commit(&*store, [started(5, 3)]).await.unwrap();
    for (i, over) in [(0, false), (1, true), (2, true), (3, false), (4, false), (5, false), (20, false)] {
        let ended = store.session(session_id(i)).await.unwrap().unwrap().session.ended;
        assert_eq!(
            ended.map(|e| (e.at, e.reason)),
            over.then_some((at(5), EndReason::Revoked)),
            "session {i}"
        );
    }
    let mut told: Vec<_> =
        store.events_after(0, 10).await.unwrap().into_iter().map(|e| e.event.kind).collect();
    told.sort_by_key(|kind| {
        kind != &EventKind::SessionEnded { sid: session_id(1), reason: EndReason::Revoked }
    });
    let ended = |i| EventKind::SessionEnded { sid: session_id(i), reason: EndReason::Revoked };
    assert_eq!(told, [ended(1), ended(2)]);
}
