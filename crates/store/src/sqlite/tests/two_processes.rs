//! The command line beside a running server. Two stores on one folder share nothing but the file.

use super::*;
use crate::conformance::{NOW, UNTIL, commit, session, start, user_id, with_session, with_user};
use crate::{EndFilter, EndSessions, Write, decide};
use reseal_core::EndReason;
use reseal_core::session::Change;
use reseal_core::user::UserPatch;

#[tokio::test]
async fn each_sees_what_the_other_was_told_is_done() {
    let folder = folder();
    let server = open(folder.path(), Access::Serve);
    let tool = open(folder.path(), Access::Tool);
    let (mut user, session) = with_session(&server, 1).await;
    for i in 0..50 {
        let (writer, other) = if i % 2 == 0 { (&tool, &server) } else { (&server, &tool) };
        let patch = UserPatch { name: Some(Some(format!("name {i}"))), ..UserPatch::default() };
        user = user.patched(&patch, NOW).unwrap().unwrap();
        commit(writer, [Write::SwapUser(Box::new(user.clone()), None)]).await.unwrap();
        let seen = decide(other, session.id, UNTIL, |s: &Snapshot| (s.user.name.clone(), Change::default()));
        assert_eq!(seen.await.unwrap().unwrap(), user.name);
        assert_eq!(*other.session(session.id).await.unwrap().unwrap().user, user);
    }
    let end = EndSessions {
        filter: EndFilter::One(session.id),
        reason: EndReason::Revoked,
        now: NOW,
        ip: None,
        event_until: UNTIL,
    };
    assert_eq!(tool.end_sessions(end).await.unwrap(), 1);
    assert!(server.session(session.id).await.unwrap().unwrap().session.ended.is_some());
    assert_eq!(server.last_event().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_may_write_at_once() {
    let folder = folder();
    let server = open(folder.path(), Access::Serve);
    let tool = open(folder.path(), Access::Tool);
    let user = with_user(&server, 1).await;
    let work = async |store: &SqliteStore, from: usize| {
        for i in from..from + 50 {
            commit(store, [start(&session(i, &user))]).await.unwrap();
        }
    };
    tokio::join!(work(&server, 0), work(&tool, 100));
    assert_eq!(server.sessions_of_user(user_id(1), None, 1000).await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_tool_makes_the_database_and_leaves_the_folder_free() {
    let folder = folder();
    let tool = open(folder.path(), Access::Tool);
    with_user(&tool, 1).await;
    let server = open(folder.path(), Access::Serve);
    assert!(server.user(user_id(1)).await.unwrap().is_some());
    with_user(&tool, 2).await;
    assert!(server.user(user_id(2)).await.unwrap().is_some());
}

#[tokio::test]
async fn another_process_that_keeps_writing_is_waited_for_within_bounds() {
    let folder = folder();
    let options = SqliteOptions { timeout: Duration::from_millis(100), ..SqliteOptions::default() };
    let server = SqliteStore::open(folder.path(), options).unwrap();
    with_user(&server, 1).await;
    let other = raw(folder.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = commit(&server, [Write::PutMeta("x".to_owned(), vec![])]).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    assert!(server.user(user_id(1)).await.unwrap().is_some(), "reads go on");
    other.execute_batch("ROLLBACK").unwrap();
    while commit(&server, [Write::PutMeta("x".to_owned(), vec![])]).await.is_err() {}
    assert!(server.meta("x").await.unwrap().is_some());
}
