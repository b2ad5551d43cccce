//! What comes through.

use super::*;
use proptest::prelude::*;

/// All samples of the conformance suite.
async fn fill_with_anything(store: &dyn Store, count: usize) {
    for (i, user) in sample(any_user(user_id(0), String::new()), count).into_iter().enumerate() {
        let username = format!("Üser {i} of many");
        let user = reseal_core::User { id: user_id(i), username, disabled: false, auth_epoch: 3, ..user };
        let secrets = sample(any_secrets(), i + 1).pop().unwrap();
        commit(store, [Write::CreateUser(Box::new(user), secrets)]).await.unwrap();
    }
    let sessions = sample((0..count).prop_flat_map(|i| any_session(user_id(i))), 3 * count);
    for (i, mut session) in sessions.into_iter().enumerate() {
        session.id = session_id(i);
        let ended = session.ended.take();
        commit(store, [start(&session)]).await.unwrap();
        let kinds = [TimelineKind::Started, TimelineKind::Late, TimelineKind::Ended(EndReason::Revoked)];
        for kind in kinds.into_iter().take(i % 4) {
            let line = TimelineEntry { session_id: session.id, at: NOW, kind, ip: session.ip };
            commit(store, [Write::Timeline(line)]).await.unwrap();
        }
        if ended.is_some() {
            let next = reseal_core::Session { ended, version: session.version.wrapping_add(1), ..session };
            commit(store, [Write::SwapSession(Box::new(next))]).await.unwrap();
        }
    }
    for client in sample(any_client(), count) {
        let _ = commit(store, [Write::CreateClient(Box::new(client))]).await;
    }
    for challenge in sample(any_challenge(), count) {
        commit(store, [Write::CreateChallenge(Box::new(challenge))]).await.unwrap();
    }
    for key in sample(any_key(), count) {
        let _ = commit(store, [Write::PutKey(Box::new(key))]).await;
    }
    for (i, value) in sample(proptest::collection::vec(any::<u8>(), 0..300), count).into_iter().enumerate() {
        commit(store, [Write::PutMeta(format!("value {i}"), value)]).await.unwrap();
    }
    let kinds = |i| {
        [
            EventKind::SessionEnded { sid: session_id(i), reason: EndReason::ReuseDetected },
            EventKind::ClaimsChanged { sub: user_id(i), rev: u64::MAX - i as u64 },
            EventKind::ClientChanged { client_id: "web".parse().unwrap(), before: i as i64 },
            EventKind::KeysChanged { withdrawn: vec!["a".to_owned(), i.to_string()] },
        ]
    };
    for i in 0..count {
        for kind in kinds(i) {
            commit(store, [Write::Log(Event { kind, until: UNTIL })]).await.unwrap();
        }
    }
    // One who is remembered only.
    let gone = with_user(store, 5000).await;
    let (user, version) = (gone.id, gone.version);
    commit(store, [Write::DeleteUser { user, version, at: NOW }]).await.unwrap();
}

#[test]
fn every_field_of_everything_comes_through() {
    each_pair(async |pair, from, to| {
        fill_with_anything(&*from.store, 60).await;
        let report = complete(&from, &to, 50).await;
        let all = assert_same(&from, &to).await;
        let found = (all.users.len(), all.sessions.len(), all.challenges.len(), all.events.len());
        assert_eq!(found, (61, 180, 60, 240), "{pair}");
        assert!(all.clients.len() > 30 && all.keys.len() > 30 && all.meta.len() >= 60);
        assert!(all.users.iter().any(|user| matches!(user, UserRecord::Deleted(_))));
        assert!(all.sessions.iter().any(|s| s.session.ended.is_some() && s.timeline.len() == 3));
        assert_eq!(report.counts, from.end.counts().await.unwrap());
        assert_eq!(report.counts.users, 61);
        assert!(report.compared as u64 >= report.counts.users, "{report:?}");
        // The store itself sees it the same way.
        let store = &*to.store;
        let (user, secrets) = store.user_by_username("ÜSER 7 OF MANY").await.unwrap().unwrap();
        assert_eq!(from.store.user_secrets(user.id).await.unwrap(), Some((user, secrets)));
        assert_eq!(store.user(user_id(5000)).await.unwrap(), None);
        for i in 0..180 {
            let ours = from.store.session(session_id(i)).await.unwrap();
            assert!(ours.is_some() && ours == store.session(session_id(i)).await.unwrap(), "session {i}");
            let lines = from.store.timeline(session_id(i)).await.unwrap();
            assert_eq!(lines, store.timeline(session_id(i)).await.unwrap());
        }
    });
}

#[test]
fn the_target_goes_on_where_the_source_ended() {
    each_pair(async |_, from, to| {
        fill(&*from.store, 5).await;
        // The newest event is gone; its number is not given again.
        let kind = EventKind::ClaimsChanged { sub: user_id(1), rev: 3 };
        commit(&*from.store, [Write::Log(Event { kind: kind.clone(), until: NOW })]).await.unwrap();
        assert_eq!(from.store.sweep(NOW, NOW, 100).await.unwrap().events, 1);
        complete(&from, &to, 3).await;
        let store = &*to.store;
        assert_eq!(store.last_event().await.unwrap(), 6);
        commit(store, [Write::Log(Event { kind, until: UNTIL })]).await.unwrap();
        assert_eq!(store.events_after(6, 10).await.unwrap().len(), 1);
        assert_eq!(store.events_after(0, 10).await.unwrap().last().unwrap().seq, 7);
        assert_eq!(store.meta(crate::FEED_EPOCH).await.unwrap(), Some(vec![9; 16]));
        // Sessions end, start, and take their texts along as ever.
        let end = crate::EndSessions {
            filter: crate::EndFilter::User { user: user_id(0), except: None },
            reason: EndReason::Revoked,
            now: NOW,
            ip: None,
            event_until: UNTIL,
        };
        assert_eq!(store.end_sessions(end).await.unwrap(), 1);
        let user = store.user(user_id(2)).await.unwrap().unwrap();
        commit(store, [start(&session(900, &user))]).await.unwrap();
        // A deadline far ahead: all sessions are outdated at once.
        let late = reseal_core::Timestamp::from_secs(NOW.secs() + 400 * 86_400);
        assert_eq!(store.sweep(late, late, 1000).await.unwrap().sessions, 6);
    });
}

#[test]
fn a_user_who_was_forgotten_at_the_source_is_forgotten_and_one_who_is_remembered_begins_above() {
    each_pair(async |_, from, to| {
        let user = with_user(&*from.store, 1).await;
        let raised = reseal_core::User { version: 2, revision: 70, auth_epoch: 30, ..user };
        commit(&*from.store, [Write::SwapUser(Box::new(raised.clone()), None)]).await.unwrap();
        let delete = Write::DeleteUser { user: raised.id, version: 2, at: NOW };
        commit(&*from.store, [delete]).await.unwrap();
        complete(&from, &to, 10).await;
        let again = user_id(1);
        let user = reseal_core::User { id: again, ..conformance_user() };
        commit(&*to.store, [Write::CreateUser(Box::new(user), secrets("new"))]).await.unwrap();
        let found = to.store.user(again).await.unwrap().unwrap();
        assert_eq!((found.revision, found.auth_epoch), (71, 31));
    });
}

fn conformance_user() -> reseal_core::User {
    user(1)
}

#[test]
fn an_empty_store_moves_too() {
    each_pair(async |_, from, to| {
        let report = complete(&from, &to, 10).await;
        assert_eq!(report.counts, Counts::default());
        check_may_serve(&*to.store).await.unwrap();
    });
}

#[test]
fn pages_hold_no_more_than_was_asked_for_and_all_of_them_hold_everything() {
    each_pair(async |_, from, _| {
        fill(&*from.store, 23).await;
        for limit in [1, 2, 7, 23, 100] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = from.end.page(Kind::Sessions, after, limit).await.unwrap();
                assert!(page.batch.len() <= limit);
                seen.extend(page.batch.sessions.into_iter().map(|s| s.session.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 23);
        }
    });
}

#[test]
fn a_damaged_copy_is_found_out_and_not_served() {
    let (from, to) = (Place::sqlite(), Place::sqlite());
    block_on(async {
        fill(&*from.store, 10).await;
        let mut stop = Steps::up_to(12);
        assert!(matches!(run(&from, &to, options(5), &mut stop).await, Err(TransferError::Stopped)));
        // Behind the tool's back, so that no note mends it.
        assert_eq!(to.raw().execute("UPDATE users SET revision = 77 WHERE n = 3", []).unwrap(), 1);
        let error = run(&from, &to, nth_run(5, 2), &mut Steps::all()).await.unwrap_err();
        assert!(matches!(error, TransferError::Differs(_)), "{error}");
        check_may_serve(&*to.store).await.unwrap_err();
        // The source goes on.
        check_may_serve(&*from.store).await.unwrap();
        with_user(&*from.store, 99).await;
    });
}

#[test]
fn a_lost_row_is_found_out() {
    let (from, to) = (Place::sqlite(), Place::sqlite());
    block_on(async {
        fill(&*from.store, 10).await;
        let mut stop = Steps::up_to(12);
        assert!(matches!(run(&from, &to, options(5), &mut stop).await, Err(TransferError::Stopped)));
        assert_eq!(to.raw().execute("DELETE FROM challenges", []).unwrap(), 1);
        let error = run(&from, &to, nth_run(5, 2), &mut Steps::all()).await.unwrap_err();
        assert!(error.to_string().contains("1 challenges at the source, 0 at the target"), "{error}");
    });
}
