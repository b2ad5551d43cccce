//! Sweeping out what is outdated.

use super::*;
use crate::{Snapshot, Swept, Write, decide};
use reseal_core::event::{Event, EventKind};
use reseal_core::refresh::{OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::{Change, Ended};
use reseal_core::{EndReason, Session, TimelineEntry, TimelineKind, Timestamp, User};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

pub async fn a_sweep_takes_what_is_outdated_and_nothing_else<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let before = NOW - 30 * DAY;
    let line = |s: &Session| {
        Write::Timeline(TimelineEntry { session_id: s.id, at: NOW, kind: TimelineKind::Started, ip: None })
    };
    let open_until = |i, idle: Timestamp| Session { idle_expires_at: idle, ..session(i, &user) };
    let ended_at = |i, at, idle| Session {
        ended: Some(Ended { at, reason: EndReason::SignedOut }),
        ..open_until(i, idle)
    };
    let outdated = [
        open_until(1, before - 2 * DAY),
        ended_at(2, before - 2 * DAY, NOW + DAY),
        ended_at(3, Timestamp::EPOCH, Timestamp::EPOCH),
    ];
    let kept = [
        open_until(11, NOW + DAY),
        open_until(12, NOW - DAY),
        open_until(13, before),
        ended_at(14, before, before - 9 * DAY),
        ended_at(15, NOW, NOW + DAY),
    ];
    for session in outdated.iter().chain(&kept) {
        commit(&*store, [start(session), line(session)]).await.unwrap();
    }
    for (i, expires_at) in [(1, NOW), (2, NOW + Duration::from_millis(1))] {
        let challenge = reseal_core::challenge::Challenge { expires_at, ..challenge(i) };
        commit(&*store, [Write::CreateChallenge(Box::new(challenge))]).await.unwrap();
        let kind = EventKind::ClaimsChanged { sub: user.id, rev: 2 };
        commit(&*store, [Write::Log(Event { kind, until: expires_at })]).await.unwrap();
    }
    let swept = store.sweep(NOW, before, 100).await.unwrap();
    assert_eq!(swept, Swept { sessions: 3, challenges: 1, events: 1 });
    assert_eq!(swept.total(), 5);
    assert_eq!(store.sweep(NOW, before, 100).await.unwrap().total(), 0);
    for session in outdated {
        assert_eq!(store.session(session.id).await.unwrap(), None);
        assert_eq!(store.timeline(session.id).await.unwrap(), [], "the timeline goes with it");
    }
    for session in kept {
        assert_eq!(store.session(session.id).await.unwrap().unwrap().session, session);
        assert_eq!(store.timeline(session.id).await.unwrap().len(), 1);
    }
    assert_eq!(store.challenge(&challenge_id(1)).await.unwrap(), None);
    assert!(store.challenge(&challenge_id(2)).await.unwrap().is_some());
    assert_eq!(store.events_after(0, 10).await.unwrap()[0].seq, 2);
    assert_eq!(store.user(user.id).await.unwrap(), Some(user));
}

pub async fn a_sweep_follows_a_deadline_that_moves<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let session = Session { idle_expires_at: NOW + DAY, ..session(1, &user) };
    commit(&*store, [start(&session)]).await.unwrap();
    let used_on = async |day: u32| {
        let decided = decide(&*store, session.id, UNTIL, move |s: &Snapshot| {
            let token = ring().successor(&s.session).unwrap();
            let at = (NOW + day * DAY, Presenter::default());
            match rotate(&s.session, policy(), &token, OnRollback::Theft, at) {
                Outcome::Issue { session, change, .. } => (session.idle_expires_at, change),
                other => panic!("{other:?}"),
            }
        });
        decided.await.unwrap().unwrap()
    };
    used_on(0).await;
    let deadline = used_on(10).await;
    assert!(deadline > NOW + 20 * DAY);
    assert_eq!(store.sweep(NOW, deadline, 10).await.unwrap().sessions, 0, "it is in use");
    assert_eq!(store.sweep(NOW, deadline + 2 * DAY, 10).await.unwrap().sessions, 1);

    // And an end counts from when it was, however far the deadline.
    let session = Session { idle_expires_at: NOW + 300 * DAY, ..session };
    commit(&*store, [start(&session)]).await.unwrap();
    let ended = session.end(EndReason::SignedOut, NOW, None).unwrap().session.unwrap();
    commit(&*store, [Write::SwapSession(Box::new(ended))]).await.unwrap();
    assert_eq!(store.sweep(NOW, NOW, 10).await.unwrap().sessions, 0);
    assert_eq!(store.sweep(NOW, NOW + 2 * DAY, 10).await.unwrap().sessions, 1);
}

pub async fn a_forgotten_user_who_comes_again_is_not_the_one_before<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (user, session) = with_session(&*store, 1).await;
    let seen = async |id| {
        let by_decision = |s: &Snapshot| (User::clone(&s.user), Change::default());
        let decided = decide(&*store, id, UNTIL, by_decision).await.unwrap().unwrap();
        assert_eq!(*store.session(id).await.unwrap().unwrap().user, decided);
        decided
    };
    assert_eq!(seen(session.id).await, user);
    let ended = session.end(EndReason::UserDisabled, NOW, None).unwrap().session.unwrap();
    let delete = Write::DeleteUser { user: user.id, version: user.version, at: NOW };
    commit(&*store, [Write::SwapSession(Box::new(ended)), delete]).await.unwrap();
    assert_eq!(store.sweep(NOW, NOW + 2 * DAY, 10).await.unwrap().sessions, 1);
    store.sweep(NOW + 2 * DAY, NOW, 10).await.unwrap();

    // An import may bring a user back under the id of before.
    let again = User { roles: vec!["other".to_owned()], created_at: NOW + DAY, ..user.clone() };
    commit(&*store, [Write::CreateUser(Box::new(again.clone()), secrets("x"))]).await.unwrap();
    let session = super::session(2, &again);
    commit(&*store, [start(&session)]).await.unwrap();
    assert_eq!(seen(session.id).await, again);
}

pub async fn a_sweep_keeps_to_its_limit<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    for i in 0..25 {
        let outdated = Session { idle_expires_at: NOW - 90 * DAY, ..session(i, &user) };
        let kind = EventKind::ClaimsChanged { sub: user.id, rev: 2 };
        let event = Write::Log(Event { kind, until: NOW });
        let challenge = Write::CreateChallenge(Box::new(challenge(i)));
        commit(&*store, [start(&outdated), event, challenge]).await.unwrap();
    }
    let mut rounds = Vec::new();
    loop {
        let swept = store.sweep(NOW + DAY, NOW - 30 * DAY, 10).await.unwrap();
        if swept.total() == 0 {
            break;
        }
        rounds.push((swept.sessions, swept.challenges, swept.events));
    }
    assert_eq!(rounds, [(10, 10, 10), (10, 10, 10), (5, 5, 5)]);
    assert_eq!(store.sessions_of_user(user.id, None, 100).await.unwrap(), []);
}
