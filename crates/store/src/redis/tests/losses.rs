//! Crashes between the two stores, and a Redis that lost something: no session is lost, none is revived, and no
//! old privilege comes back.

use super::*;
use crate::conformance::{at_once, commit, session, start, with_session, with_user};
use crate::{CommitError, Conflict, EndFilter, StartSession, Write};
use reseal_core::auth::Strength;
use reseal_core::event::EventKind;
use reseal_core::{Acr, Amr, EndReason, TimelineKind};

fn stronger() -> Strength {
    let amr = Amr::PWD.union(Amr::SMS).union(Amr::MFA);
    Strength { acr: Acr::Aal2, amr, authenticated_at: NOW }
}

fn end(filter: EndFilter) -> EndSessions {
    EndSessions { filter, reason: EndReason::Revoked, now: NOW, ip: None, event_until: UNTIL }
}

async fn step_up(store: &dyn Store, id: SessionId) {
    let stepped = decide(store, id, UNTIL, |s: &Snapshot| ((), s.session.step_up(stronger(), NOW, None)));
    stepped.await.unwrap().unwrap();
}

async fn read(store: &dyn Store, id: SessionId) -> Session {
    store.session(id).await.unwrap().unwrap().session
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_start_was_never_told_to_redis_lives() {
    let place = Place::new();
    let store = place.node().await;
    store.crash_before_apply(true);
    let (_, session) = with_session(&*store, 1).await;
    store.crash_before_apply(false);
    assert_eq!(store.bytes(session.id).await, None);
    assert_eq!(read(&*store, session.id).await, session);
    // A read puts it there, after its answer.
    while store.bytes(session.id).await.is_none() {
        tokio::task::yield_now().await;
    }
    let token = renew(&*store, ring().successor(&session).unwrap(), 30, 3).await;
    assert_eq!(token.number, 4);
    assert_eq!(read(&*store, session.id).await.version, session.version + 3);
    // It is noted, too: its row goes with all others of its user.
    let noted =
        async || store.inner.with_link(async |link| link.noted(session.user_id, 9).await).await.unwrap();
    while noted().await.is_empty() {
        tokio::task::yield_now().await;
    }
    let all = end(EndFilter::User { user: session.user_id, except: None });
    assert_eq!(store.end_sessions(all).await.unwrap(), 1);
    assert_eq!(store.bytes(session.id).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_never_told_to_redis_holds() {
    let place = Place::new();
    let (store, other) = (place.node().await, place.node().await);
    let user = with_user(&*store, 1).await;
    let sessions: Vec<Session> = (0..4).map(|i| session(i, &user)).collect();
    commit(&*store, sessions.iter().map(start)).await.unwrap();
    let mut tokens = Vec::new();
    for session in &sessions {
        tokens.push(renew(&*other, ring().successor(session).unwrap(), 30, 2).await);
    }
    store.crash_before_apply(true);
    assert_eq!(store.end_sessions(end(EndFilter::One(sessions[0].id))).await.unwrap(), 1);
    commit(&*store, [Write::EndSessions(end(EndFilter::One(sessions[1].id)))]).await.unwrap();
    let by_decision = decide(&*store, sessions[2].id, UNTIL, |s: &Snapshot| {
        ((), s.session.end(EndReason::SignedOut, NOW, None).unwrap())
    });
    by_decision.await.unwrap().unwrap();
    let all = end(EndFilter::User { user: user.id, except: None });
    assert_eq!(store.end_sessions(all).await.unwrap(), 1);
    for (session, token) in sessions.iter().zip(tokens) {
        assert!(store.bytes(session.id).await.is_some(), "the row is there as if nothing had happened");
        for node in [&store, &other] {
            assert_eq!(present(&**node, token, 90).await.unwrap(), None);
            assert!(read(&**node, session.id).await.ended.is_some());
        }
        assert_eq!(store.bytes(session.id).await, None, "and goes when it is found out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_not_revived_by_an_old_row() {
    let place = Place::new();
    let store = place.node().await;
    let (_, session) = with_session(&*store, 1).await;
    let token = renew(&*store, ring().successor(&session).unwrap(), 30, 3).await;
    let bytes = store.bytes(session.id).await.unwrap();
    store.end_sessions(end(EndFilter::One(session.id))).await.unwrap();
    assert_eq!(store.bytes(session.id).await, None);
    store.put_bytes(session.id, &bytes).await;
    assert_eq!(present(&*store, token, 120).await.unwrap(), None);
    let ended = read(&*store, session.id).await;
    assert_eq!(ended.ended.unwrap().reason, EndReason::Revoked);
    let listed = store.sessions_of_user(session.user_id, None, 9).await.unwrap();
    assert_eq!(listed, [ended]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_privilege_survives_the_crash_and_the_failover_after_it() {
    let place = Place::new();
    let (store, other) = (place.node().await, place.node().await);
    for crashes in [true, false] {
        let (_, session) = with_session(&*store, usize::from(crashes)).await;
        let token = renew(&*other, ring().successor(&session).unwrap(), 30, 3).await;
        let before = store.bytes(session.id).await.unwrap();
        store.crash_before_apply(crashes);
        step_up(&*store, session.id).await;
        store.crash_before_apply(false);
        // A failover to before the change, or the row that was never written.
        store.put_bytes(session.id, &before).await;
        let behind = other.figures().behind;
        let found = read(&*other, session.id).await;
        assert_eq!(found.strength, stronger());
        assert_eq!(found.rotation.used, 3, "the use of it is not lost");
        assert_eq!(other.figures().behind, behind + 1);
        // A read makes the row again, after its answer.
        while store.bytes(session.id).await.as_ref() == Some(&before) {
            tokio::task::yield_now().await;
        }
        let token = renew(&*other, token, 120, 2).await;
        assert_eq!(other.figures().behind, behind + 1, "it was made again once");
        let found = read(&*store, session.id).await;
        assert_eq!((found.strength, found.rotation.used), (stronger(), 5));
        // And a row from before that loses both.
        store.put_bytes(session.id, &before).await;
        assert!(present(&*store, token, 300).await.unwrap().is_some(), "ahead of its row");
        let found = read(&*store, session.id).await;
        assert_eq!((found.strength, found.rotation.used), (stronger(), 6));
        let lines = store.timeline(session.id).await.unwrap();
        let kinds: Vec<_> = lines.iter().map(|line| line.kind).collect();
        assert_eq!(kinds, [TimelineKind::FactorPassed, TimelineKind::Ahead]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_is_one_of_the_row_that_was_read_however_often_it_was_renewed() {
    let place = Place::new();
    let (store, other) = (place.node().await, place.node().await);
    let (_, session) = with_session(&*store, 1).await;
    renew(&*other, ring().successor(&session).unwrap(), 30, 5).await;
    let old = Session { version: session.version + 1, ..session.clone() };
    let swapped = commit(&*store, [Write::SwapSession(Box::new(old))]).await;
    assert!(matches!(swapped, Err(CommitError::Conflict(Conflict::SessionChanged))), "{swapped:?}");
    let change = read(&*store, session.id).await.step_up(stronger(), NOW, None);
    let next = change.session.unwrap();
    commit(&*store, [Write::SwapSession(Box::new(next.clone()))]).await.unwrap();
    assert_eq!(read(&*store, session.id).await, next);
    assert_eq!(read(&*other, session.id).await, next);
    // Twice in one commit, and gone with what fails after it.
    let again =
        |version, last: &Session| Session { version, policy: "other".parse().unwrap(), ..last.clone() };
    let two = [again(next.version + 1, &next), again(next.version + 2, &next)];
    let swaps = two.clone().map(|session| Write::SwapSession(Box::new(session)));
    let fails = Write::TakeChallenge { id: crate::conformance::challenge_id(1), version: 1 };
    let undone = commit(&*store, swaps.clone().into_iter().chain([fails])).await;
    assert!(matches!(undone, Err(CommitError::Conflict(Conflict::ChallengeChanged))), "{undone:?}");
    assert_eq!(read(&*other, session.id).await, next);
    commit(&*store, swaps).await.unwrap();
    assert_eq!(read(&*other, session.id).await, two[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_logged_out_when_redis_is_emptied_and_nothing_ended_comes_back() {
    let place = Place::new();
    let (store, other) = (place.node().await, place.node().await);
    let user = with_user(&*store, 1).await;
    let sessions: Vec<Session> = (0..20).map(|i| session(i, &user)).collect();
    commit(&*store, sessions.iter().map(start)).await.unwrap();
    let mut tokens = Vec::new();
    for (i, session) in sessions.iter().enumerate() {
        let token = renew(&*store, ring().successor(session).unwrap(), 30, u64::try_from(i % 4).unwrap());
        tokens.push(token.await);
        if i % 5 == 0 {
            store.end_sessions(end(EndFilter::One(session.id))).await.unwrap();
        }
    }
    step_up(&*store, sessions[1].id).await;
    place.redis.ask(&["FLUSHALL"]);
    for (i, (session, token)) in sessions.iter().zip(tokens).enumerate() {
        let node = if i % 2 == 0 { &store } else { &other };
        let answer = present(&**node, token, 600).await.unwrap();
        assert_eq!(answer.is_some(), i % 5 != 0, "session {i}");
        let found = read(&*store, session.id).await;
        assert_eq!(found.ended.is_some(), i % 5 == 0, "session {i}");
        if let Some((next, _)) = answer {
            assert_eq!(next.number, token.number + 1);
        }
        assert_eq!(found.strength == stronger(), i == 1);
    }
    assert!(store.figures().missed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_is_made_again_and_one_of_a_later_version_is_left_alone() {
    let place = Place::new();
    let store = place.node().await;
    let (_, session) = with_session(&*store, 1).await;
    let good = store.bytes(session.id).await.unwrap();
    for damaged in [&b""[..], b"\0x", &good[..40], &good[..good.len() - 1]] {
        store.put_bytes(session.id, damaged).await;
        assert_eq!(read(&*store, session.id).await.rotation, session.rotation, "{damaged:?}");
    }
    let token = renew(&*store, ring().successor(&session).unwrap(), 30, 1).await;
    let mut newer = store.bytes(session.id).await.unwrap();
    newer[0] = 2;
    store.put_bytes(session.id, &newer).await;
    let answer = present(&*store, token, 60).await;
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
    assert_eq!(store.bytes(session.id).await.unwrap(), newer);
    // Nor is the session swept for a deadline that is older than what cannot be read.
    let later = session.idle_expires_at + Duration::from_secs(90 * 86_400);
    let swept = store.sweep(later, later, 100).await;
    assert!(matches!(swept, Err(StoreError::Corrupt(_))), "{swept:?}");
    assert!(store.backing().session(session.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_knows_no_text_yet_reads_it() {
    let place = Place::new();
    let store = place.node().await;
    let user = with_user(&*store, 1).await;
    let long = Session {
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64) Chromium".to_owned()),
        scope: "profile read write everything.else".parse().unwrap(),
        ..session(1, &user)
    };
    commit(&*store, [start(&long)]).await.unwrap();
    renew(&*store, ring().successor(&long).unwrap(), 30, 2).await;
    let fresh = place.node().await;
    let found = read(&*fresh, long.id).await;
    assert_eq!((found.user_agent, found.scope, found.rotation.used), (long.user_agent, long.scope, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_race_for_one_token_make_one_lineage() {
    const TABS: usize = 16;
    let place = Place::new();
    let nodes = [place.node().await, place.node().await];
    let (_, session) = with_session(&*nodes[0], 1).await;
    let mut token = ring().successor(&session).unwrap();
    for round in 1..=40 {
        let answers = at_once(TABS, |i| {
            let node = Arc::clone(&nodes[i % 2]);
            async move { present(&*node, token, round * 30).await.unwrap().expect("no tab is logged out") }
        });
        let answers = answers.await;
        assert!(answers.iter().all(|(next, _)| *next == answers[0].0), "all tabs hold the same token");
        assert_eq!(answers.iter().filter(|(_, how)| *how == Issued::Advance).count(), 1);
        token = answers[0].0;
    }
    let found = read(&*nodes[1], session.id).await;
    assert_eq!((found.rotation.used, found.version), (40, session.version + 40));
}

/// Renewals and changes of privilege on two nodes at once: neither loses the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_races_a_change_of_privilege_loses_neither() {
    let place = Place::new();
    let nodes = [place.node().await, place.node().await];
    for i in 0..30 {
        let (_, session) = with_session(&*nodes[0], i).await;
        let token = ring().successor(&session).unwrap();
        let results = at_once(4, |k| {
            let node = Arc::clone(&nodes[k % 2]);
            async move {
                match k {
                    0 => step_up(&*node, session.id).await,
                    _ => drop(renew(&*node, token, 30, 1).await),
                }
            }
        });
        results.await;
        for node in &nodes {
            let found = read(&**node, session.id).await;
            assert_eq!((found.strength, found.rotation.used), (stronger(), 1), "round {i}");
        }
        let lines = nodes[0].timeline(session.id).await.unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_user_go_when_all_sessions_end() {
    let place = Place::new();
    let store = place.node().await;
    let user = with_user(&*store, 1).await;
    let all: Vec<Session> = (0..5).map(|i| session(i, &user)).collect();
    let starts = all.iter().map(|session| {
        let session = session.clone();
        Write::StartSession(Box::new(StartSession {
            session,
            auth_epoch: 3,
            max_sessions: 0,
            event_until: UNTIL,
        }))
    });
    commit(&*store, starts).await.unwrap();
    let kept = Some(all[2].id);
    store.end_sessions(end(EndFilter::User { user: user.id, except: kept })).await.unwrap();
    for session in &all {
        assert_eq!(store.bytes(session.id).await.is_some(), Some(session.id) == kept);
    }
}

/// Who logs in while all sessions of the user are being ended keeps what only Redis knows of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn the_row_of_a_session_that_started_after_the_end_of_all_stays() {
    let place = Place::new();
    let store = place.node().await;
    let user = with_user(&*store, 1).await;
    let (old, new) = (session(1, &user), session(2, &user));
    commit(&*store, [start(&old)]).await.unwrap();
    let all = EndFilter::User { user: user.id, except: None };
    assert_eq!(store.backing().end_sessions(end(all.clone())).await.unwrap(), 1);
    commit(&*store, [start(&new)]).await.unwrap();
    renew(&*store, ring().successor(&new).unwrap(), 30, 3).await;
    store.inner.forget_ended(&[all]).await;
    assert_eq!(store.bytes(old.id).await, None);
    assert!(store.bytes(new.id).await.is_some());
    let noted = store.inner.with_link(async |link| link.noted(user.id, 9).await).await.unwrap();
    assert_eq!(noted, [new.id]);
}

/// What verifiers must know is never only in Redis.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_logs_an_event_commits_in_the_backing_store() {
    let place = Place::new();
    let store = place.node().await;
    let (_, session) = with_session(&*store, 1).await;
    let (id, seq) = (session.id, store.last_event().await.unwrap());
    let renewed = decide(&*store, id, UNTIL, move |s: &Snapshot| {
        let next = Session { version: s.session.version + 1, ..s.session.clone() };
        let event = EventKind::SessionEnded { sid: id, reason: EndReason::Revoked };
        ((), Change { session: Some(next), events: vec![event], ..Change::default() })
    });
    renewed.await.unwrap().unwrap();
    assert_eq!(store.events_after(seq, 9).await.unwrap().len(), 1);
    assert_eq!(store.backing().session(id).await.unwrap().unwrap().session.version, session.version + 1);
}

/// The database's server died and its successor lacks the last change, which Redis has; and the next change gets
/// the same version, without Redis being told of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_privilege_that_the_backing_store_lost_is_not_taken_for_the_next_one() {
    let place = Place::new();
    let store = place.node().await;
    for (i, by_commit) in [(1, false), (2, true)] {
        let (_, session) = with_session(&*store, i).await;
        let token = renew(&*store, ring().successor(&session).unwrap(), 30, 2).await;
        let before = read(&*store, session.id).await;
        let lost = Session { version: before.version + 1, strength: stronger(), ..before.clone() };
        let bytes = row::encode(&lost, session.version + 1, lost.idle_expires_at);
        store.put_bytes(session.id, &bytes).await;
        store.crash_before_apply(true);
        let policy: reseal_core::PolicyName = "other".parse().unwrap();
        if by_commit {
            let seen = read(&*store, session.id).await;
            let next = Session { version: seen.version + 1, policy: policy.clone(), ..seen };
            store.put_bytes(session.id, &bytes).await;
            // As it lay there when it was decided.
            let swapped = commit(&*store, [Write::SwapSession(Box::new(next))]).await;
            assert!(swapped.is_ok(), "{swapped:?}");
        } else {
            let policy = policy.clone();
            let changed = decide(&*store, session.id, UNTIL, move |s: &Snapshot| {
                let next =
                    Session { version: s.session.version + 1, policy: policy.clone(), ..s.session.clone() };
                ((), Change { session: Some(next), ..Change::default() })
            });
            changed.await.unwrap().unwrap();
        }
        store.crash_before_apply(false);
        let found = read(&*store, session.id).await;
        assert_eq!((found.policy, found.strength), (policy, session.strength), "{by_commit}");
        assert_eq!(found.rotation.used, 2);
        assert_eq!(renew(&*store, token, 200, 1).await.number, token.number + 1);
    }
}
