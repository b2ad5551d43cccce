//! One session: its fields, its versions, its timeline.

use super::*;
use crate::{CommitError, Conflict, EndFilter, EndSessions, Snapshot, Write, decide};
use reseal_core::session::Change;
use reseal_core::timeline::{TIMELINE_MAX, TimelineEntry};
use reseal_core::{EndReason, EventKind, Session, TimelineKind};
use std::time::Duration;

pub async fn every_field_of_a_session_comes_back<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let mut last: Vec<Session> = Vec::new();
    for (i, session) in sample(any_session(user.id), 60).into_iter().enumerate() {
        commit(&*store, [start(&session)]).await.unwrap();
        let found = store.session(session.id).await.unwrap().unwrap();
        assert_eq!(found.session, session, "as it was started");
        // Then whatever else it can become: by a swap, or by a decision.
        let mut next = sample(any_session(user.id), i + 1).pop().unwrap();
        next.id = session.id;
        next.version = session.version.wrapping_add(1);
        if session.ended.is_some() {
            last.push(session);
            continue;
        }
        if i % 2 == 0 {
            commit(&*store, [Write::SwapSession(Box::new(next.clone()))]).await.unwrap();
        } else {
            let change = Change { session: Some(next.clone()), ..Change::default() };
            decide(&*store, session.id, UNTIL, move |_| ((), change.clone())).await.unwrap().unwrap();
        }
        let found = store.session(next.id).await.unwrap().unwrap();
        assert_eq!(found.session, next, "as it was replaced");
        last.push(next);
    }
    let store = reopen(&engine, store).await;
    for session in last {
        let found = store.session(session.id).await.unwrap().unwrap();
        assert_eq!(found, Snapshot { session, user: Arc::new(user.clone()) }, "after reopening");
    }
}

pub async fn a_decision_sees_the_row_and_its_change_is_committed<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (user, session) = with_session(&*store, 1).await;
    let seen = decide(&*store, session.id, UNTIL, |s: &Snapshot| {
        let change = s.session.end(EndReason::SignedOut, NOW, s.session.ip).unwrap();
        (s.clone(), change)
    });
    let seen = seen.await.unwrap().unwrap();
    assert_eq!(seen, Snapshot { session: session.clone(), user: Arc::new(user) });
    let ended = store.session(session.id).await.unwrap().unwrap().session;
    assert_eq!(ended.version, session.version + 1);
    assert_eq!(ended.ended.unwrap().reason, EndReason::SignedOut);
    let line = TimelineEntry {
        session_id: session.id,
        at: NOW,
        kind: TimelineKind::Ended(EndReason::SignedOut),
        ip: session.ip,
    };
    assert_eq!(store.timeline(session.id).await.unwrap(), [line]);
    let events = store.events_after(0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.until, UNTIL);
    let kind = EventKind::SessionEnded { sid: session.id, reason: EndReason::SignedOut };
    assert_eq!(events[0].event.kind, kind);
}

pub async fn what_was_undone_shows_in_no_later_session<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let named = |i: usize, text: &str| Session {
        client_id: text.parse().unwrap(),
        policy: text.parse().unwrap(),
        scope: text.parse().unwrap(),
        user_agent: Some(text.to_owned()),
        ..session(i, &user)
    };
    // Started, read and ended, then undone: whatever an engine keeps of it must go.
    let end = EndSessions {
        filter: EndFilter::One(session_id(1)),
        reason: EndReason::Revoked,
        now: NOW,
        ip: None,
        event_until: UNTIL,
    };
    let fails = Write::TakeChallenge { id: challenge_id(1), version: 1 };
    let undone = commit(&*store, [start(&named(1, "undone")), Write::EndSessions(end), fails]).await;
    assert!(matches!(undone, Err(CommitError::Conflict(Conflict::ChallengeChanged))), "{undone:?}");
    let done = named(2, "done");
    commit(&*store, [start(&done)]).await.unwrap();
    let seen = decide(&*store, done.id, UNTIL, |s: &Snapshot| (s.session.clone(), Change::default()));
    assert_eq!(seen.await.unwrap().unwrap(), done);
    assert_eq!(store.session(done.id).await.unwrap().unwrap().session, done);
}

pub async fn a_decision_that_changes_nothing_writes_nothing<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let read = decide(&*store, session.id, UNTIL, |s: &Snapshot| (s.session.version, Change::default()));
    assert_eq!(read.await.unwrap(), Some(session.version));
    assert_eq!(store.session(session.id).await.unwrap().unwrap().session, session);
    assert_eq!(store.timeline(session.id).await.unwrap(), []);
    assert_eq!(store.last_event().await.unwrap(), 0);
}

pub async fn a_decision_on_no_session_is_not_run<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let decided = decide(&*store, session_id(1), UNTIL, |_: &Snapshot| -> ((), Change) {
        panic!("there is no row to decide on")
    });
    assert_eq!(decided.await.unwrap(), None);
    assert_eq!(store.session(session_id(1)).await.unwrap(), None);
}

pub async fn a_session_is_replaced_only_by_its_next_version<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let version = |version| Session { version, ..session.clone() };
    for wrong in [session.version, session.version + 2, session.version - 1] {
        let result = commit(&*store, [Write::SwapSession(Box::new(version(wrong)))]).await;
        assert!(
            matches!(result, Err(CommitError::Conflict(Conflict::SessionChanged))),
            "{wrong}: {result:?}"
        );
    }
    commit(&*store, [Write::SwapSession(Box::new(version(session.version + 1)))]).await.unwrap();
    let absent = Session { id: session_id(2), ..version(2) };
    let result = commit(&*store, [Write::SwapSession(Box::new(absent))]).await;
    assert!(matches!(result, Err(CommitError::Conflict(Conflict::SessionChanged))), "{result:?}");
}

pub async fn an_ended_session_never_lives_again<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let ended = session.end(EndReason::Revoked, NOW, None).unwrap().session.unwrap();
    commit(&*store, [Write::SwapSession(Box::new(ended.clone()))]).await.unwrap();

    let revived = Session { ended: None, version: ended.version + 1, ..ended.clone() };
    let swapped = commit(&*store, [Write::SwapSession(Box::new(revived.clone()))]).await;
    assert!(matches!(swapped, Err(CommitError::Conflict(Conflict::SessionChanged))), "{swapped:?}");
    // A decision that breaks the rule is refused, whatever the engine calls that.
    let change = Change { session: Some(revived.clone()), ..Change::default() };
    let _ = decide(&*store, session.id, UNTIL, move |_| ((), change.clone())).await;
    let started = commit(&*store, [start(&revived)]).await;
    assert!(matches!(started, Err(CommitError::Conflict(Conflict::SessionExists))), "{started:?}");

    assert_eq!(store.session(session.id).await.unwrap().unwrap().session, ended);
    let store = reopen(&engine, store).await;
    assert_eq!(store.session(session.id).await.unwrap().unwrap().session, ended);
}

pub async fn a_decision_may_write_lines_and_events_without_touching_the_row<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let told = decide(&*store, session.id, UNTIL, |s: &Snapshot| {
        let mut change = Change::default();
        change.note(&s.session, TimelineKind::Late, NOW, None);
        change.events.push(EventKind::ClientChanged { client_id: s.session.client_id.clone(), before: 7 });
        ((), change)
    });
    told.await.unwrap().unwrap();
    assert_eq!(store.session(session.id).await.unwrap().unwrap().session, session);
    assert_eq!(store.timeline(session.id).await.unwrap().len(), 1);
    assert_eq!(store.last_event().await.unwrap(), 1);
}

pub async fn a_full_timeline_still_tells_the_end<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (_, session) = with_session(&*store, 1).await;
    let line = |i: usize, kind| TimelineEntry {
        session_id: session.id,
        at: NOW + Duration::from_secs(u64::try_from(i).unwrap()),
        kind,
        ip: if i.is_multiple_of(2) { Some("2001:db8::1".parse().unwrap()) } else { None },
    };
    let mut lines: Vec<_> = (0..TIMELINE_MAX + 20).map(|i| line(i, TimelineKind::Late)).collect();
    lines[0].kind = TimelineKind::Started;
    lines[1].kind = TimelineKind::FactorPassed;
    commit(&*store, lines.clone().into_iter().map(Write::Timeline)).await.unwrap();
    lines.truncate(TIMELINE_MAX);
    assert_eq!(store.timeline(session.id).await.unwrap(), lines);
    let end = line(999, TimelineKind::Ended(EndReason::ReuseDetected));
    commit(&*store, [Write::Timeline(end.clone())]).await.unwrap();
    lines.push(end);
    assert_eq!(store.timeline(session.id).await.unwrap(), lines);
}

pub async fn a_line_for_no_session_is_dropped<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let entry = TimelineEntry { session_id: session_id(1), at: NOW, kind: TimelineKind::Late, ip: None };
    commit(&*store, [Write::Timeline(entry)]).await.unwrap();
    assert_eq!(store.timeline(session_id(1)).await.unwrap(), []);
}
