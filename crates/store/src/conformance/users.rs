//! Users and their secrets.

use super::*;
use crate::{CommitError, Conflict, EndFilter, EndSessions, StartSession, Store, Write, decide};
use reseal_core::event::{Event, EventKind};
use reseal_core::session::Change;
use reseal_core::user::UserPatch;
use reseal_core::{EndReason, User};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn conflict(result: Result<(), CommitError>) -> Conflict {
    match result {
        Err(CommitError::Conflict(conflict)) => conflict,
        other => panic!("{other:?}"),
    }
}

fn renamed(user: &User, name: &str) -> User {
    let patch = UserPatch { name: Some(Some(name.to_owned())), ..UserPatch::default() };
    user.patched(&patch, NOW).unwrap().unwrap()
}

pub async fn every_field_of_a_user_comes_back<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let mut all = Vec::new();
    for (i, secrets) in sample(any_secrets(), 40).into_iter().enumerate() {
        let name = format!("ÄÖ user {i}");
        let [user, mut next]: [_; 2] =
            sample(any_user(user_id(i), name), 2 * i + 2)[2 * i..].to_vec().try_into().unwrap();
        commit(&*store, [Write::CreateUser(Box::new(user.clone()), secrets.clone())]).await.unwrap();
        assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
        assert_eq!(store.user_secrets(user.id).await.unwrap(), Some((user.clone(), secrets.clone())));
        next.version = user.version.wrapping_add(1);
        next.username = format!("other {i}");
        commit(&*store, [Write::SwapUser(Box::new(next.clone()), None)]).await.unwrap();
        all.push((next, secrets));
    }
    let store = reopen(&engine, store).await;
    for (user, secrets) in all {
        assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
        let found = store.user_by_username(&user.username).await.unwrap();
        assert_eq!(found, Some((user, secrets)), "secrets stay when only the record is replaced");
    }
    assert_eq!(store.user(user_id(1000)).await.unwrap(), None);
    assert_eq!(store.user_secrets(user_id(1000)).await.unwrap(), None);
    assert_eq!(store.user_by_username("nobody").await.unwrap(), None);
}

pub async fn a_user_is_found_by_name_whatever_its_case<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = User { username: "Jörg.Müller".to_owned(), ..user(1) };
    commit(&*store, [Write::CreateUser(Box::new(user.clone()), secrets("x"))]).await.unwrap();
    for name in ["jörg.müller", "JÖRG.MÜLLER", "Jörg.Müller"] {
        assert_eq!(store.user_by_username(name).await.unwrap().unwrap().0, user, "{name}");
    }
    // Whatever somebody types in, NUL too, is nobody's name, and no failure.
    for name in ["jorg.muller", "", "jörg.müller\0", "\0", "'; --", "\u{10ffff}\u{fffe}"] {
        assert_eq!(store.user_by_username(name).await.unwrap(), None, "{name:?}");
    }
}

pub async fn a_username_is_taken_once<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let first = with_user(&*store, 1).await;
    let second = with_user(&*store, 2).await;
    let same_name = User { username: "USER1".to_owned(), ..user(3) };
    let same_id = User { username: "new".to_owned(), ..user(1) };
    for taken in [same_name, same_id] {
        let created = commit(&*store, [Write::CreateUser(Box::new(taken), secrets("x"))]).await;
        assert_eq!(conflict(created), Conflict::UserExists);
    }
    let clash = User { username: "User1".to_owned(), version: 2, ..second.clone() };
    assert_eq!(
        conflict(commit(&*store, [Write::SwapUser(Box::new(clash), None)]).await),
        Conflict::UserExists
    );
    assert_eq!(store.user(first.id).await.unwrap(), Some(first));
    assert_eq!(store.user(second.id).await.unwrap(), Some(second));
    assert_eq!(store.user(user_id(3)).await.unwrap(), None);
}

pub async fn a_user_is_replaced_only_by_its_next_version<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    for version in [0, 1, 3] {
        let wrong = User { version, ..renamed(&user, "wrong") };
        let swapped = commit(&*store, [Write::SwapUser(Box::new(wrong), Some(secrets("wrong")))]).await;
        assert_eq!(conflict(swapped), Conflict::UserChanged, "{version}");
    }
    assert_eq!(store.user_secrets(user.id).await.unwrap(), Some((user.clone(), secrets("first"))));
    let next = renamed(&user, "right");
    commit(&*store, [Write::SwapUser(Box::new(next.clone()), Some(secrets("right")))]).await.unwrap();
    assert_eq!(store.user_secrets(user.id).await.unwrap(), Some((next, secrets("right"))));
}

pub async fn a_rehash_changes_secrets_and_nothing_else<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    let rehash = |version, text| Write::SwapSecrets { user: user.id, version, secrets: secrets(text) };
    commit(&*store, [rehash(1, "again")]).await.unwrap();
    assert_eq!(store.user_secrets(user.id).await.unwrap(), Some((user.clone(), secrets("again"))));
    assert_eq!(conflict(commit(&*store, [rehash(2, "wrong")]).await), Conflict::UserChanged);
    assert_eq!(store.user_secrets(user.id).await.unwrap(), Some((user, secrets("again"))));
}

pub async fn a_user_with_open_sessions_is_not_deleted<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (user, session) = with_session(&*store, 1).await;
    let delete = |version| Write::DeleteUser { user: user.id, version, at: NOW };
    assert_eq!(conflict(commit(&*store, [delete(1)]).await), Conflict::UserChanged);
    assert_eq!(conflict(commit(&*store, [delete(2)]).await), Conflict::UserChanged);
    assert_eq!(store.user(user.id).await.unwrap(), Some(user.clone()));
    let end = EndSessions {
        filter: EndFilter::User { user: user.id, except: None },
        reason: EndReason::UserDisabled,
        now: NOW,
        ip: None,
        event_until: UNTIL,
    };
    commit(&*store, [Write::EndSessions(end), delete(1)]).await.unwrap();
    assert_eq!(store.user(user.id).await.unwrap(), None);
    assert_eq!(store.last_event().await.unwrap(), 1);
    let left = store.sessions_of_user(user.id, None, 10).await.unwrap();
    assert!(left.iter().all(|s| s.id == session.id && s.ended.is_some()), "{left:?}");
}

pub async fn a_deleted_user_is_gone_and_its_name_is_free<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    commit(&*store, [Write::DeleteUser { user: user.id, version: 1, at: NOW }]).await.unwrap();
    assert_eq!(store.user(user.id).await.unwrap(), None);
    assert_eq!(store.user_secrets(user.id).await.unwrap(), None);
    assert_eq!(store.user_by_username("user1").await.unwrap(), None);
    assert_eq!(store.users(None, 10).await.unwrap(), []);
    let swapped = commit(&*store, [Write::SwapUser(Box::new(renamed(&user, "late")), None)]).await;
    assert_eq!(conflict(swapped), Conflict::UserChanged);
    let successor = User { username: "user1".to_owned(), ..super::user(2) };
    commit(&*store, [Write::CreateUser(Box::new(successor.clone()), secrets("x"))]).await.unwrap();
    assert_eq!(store.user_by_username("user1").await.unwrap().unwrap().0, successor);
}

/// A verifier that knows the least valid `rev` of before must take the new record's tokens and no old one;
/// a login that began before the deletion must not start a session of the new record.
pub async fn a_user_who_comes_again_begins_above_what_is_known_of_before<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (old, session) = with_session(&*store, 1).await;
    let old = User { auth_epoch: 6, ..renamed(&renamed(&old, "two"), "three") };
    let mid = User { version: 2, ..old.clone() };
    commit(&*store, [Write::SwapUser(Box::new(mid), None)]).await.unwrap();
    commit(&*store, [Write::SwapUser(Box::new(old.clone()), None)]).await.unwrap();
    let event = Event { kind: EventKind::ClaimsChanged { sub: old.id, rev: old.revision }, until: UNTIL };
    let end = EndSessions {
        filter: EndFilter::User { user: old.id, except: None },
        reason: EndReason::UserDisabled,
        now: NOW,
        ip: None,
        event_until: UNTIL,
    };
    let delete = Write::DeleteUser { user: old.id, version: old.version, at: NOW };
    commit(&*store, [Write::Log(event), Write::EndSessions(end), delete]).await.unwrap();

    let create = |record: &User| Write::CreateUser(Box::new(record.clone()), secrets("new"));
    let new = User { username: "again".to_owned(), created_at: NOW + DAY, ..user(1) };
    let above = User { revision: old.revision + 1, auth_epoch: old.auth_epoch + 1, ..new.clone() };
    let again = async || {
        commit(&*store, [create(&new)]).await.unwrap();
        assert_eq!(store.user_secrets(new.id).await.unwrap(), Some((above.clone(), secrets("new"))));
        assert_eq!(conflict(commit(&*store, [create(&new)]).await), Conflict::UserExists);
        let login = super::session(2, &new);
        let late =
            StartSession { session: login, auth_epoch: new.auth_epoch, max_sessions: 0, event_until: UNTIL };
        let started = commit(&*store, [Write::StartSession(Box::new(late))]).await;
        assert_eq!(conflict(started), Conflict::EpochRaised);
        let delete = Write::DeleteUser { user: new.id, version: new.version, at: NOW };
        let undone = [delete, Write::TakeChallenge { id: challenge_id(1), version: 1 }];
        assert_eq!(conflict(commit(&*store, undone).await), Conflict::ChallengeChanged);
    };
    again().await;
    assert_eq!(
        store.sessions_of_user(new.id, None, 9).await.unwrap()[0].id,
        session.id,
        "an ended one stays"
    );

    // However often sessions are swept: as long as an event names the user.
    let delete = Write::DeleteUser { user: new.id, version: new.version, at: NOW };
    commit(&*store, [delete]).await.unwrap();
    store.sweep(NOW, NOW + 2 * DAY, 10).await.unwrap();
    store.sweep(NOW, NOW + 2 * DAY, 10).await.unwrap();
    let taken = User { username: "other".to_owned(), revision: 90, auth_epoch: 90, ..new.clone() };
    commit(&*store, [create(&taken)]).await.unwrap();
    assert_eq!(store.user(new.id).await.unwrap(), Some(taken), "what is above already stays");
}

pub async fn no_read_ever_sees_an_older_user<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let (mut user, session) = with_session(&*store, 1).await;
    for i in 0..200 {
        let next = renamed(&user, &format!("name {i}"));
        // What is undone must leave no trace in any cache either: the same version comes again, other.
        let undone = [
            Write::SwapUser(Box::new(renamed(&user, "undone")), None),
            Write::TakeChallenge { id: challenge_id(1), version: 1 },
        ];
        let (failed, seen) = tokio::join!(commit(&*store, undone), seen_by_decision(&*store, session.id));
        assert_eq!(conflict(failed), Conflict::ChallengeChanged);
        assert_eq!(seen, user);
        commit(&*store, [Write::SwapUser(Box::new(next.clone()), None)]).await.unwrap();
        assert_eq!(seen_by_decision(&*store, session.id).await, next);
        assert_eq!(*store.session(session.id).await.unwrap().unwrap().user, next);
        assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&next));
        user = next;
    }
}

async fn seen_by_decision(store: &dyn Store, id: reseal_core::SessionId) -> User {
    decide(store, id, UNTIL, |s: &crate::Snapshot| (User::clone(&s.user), Change::default()))
        .await
        .unwrap()
        .unwrap()
}
