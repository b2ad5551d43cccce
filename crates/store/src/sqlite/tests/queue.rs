//! The writer's queue: bounded in length and in time, and what one batch is.

use super::*;
use crate::conformance::{UNTIL, commit, secrets, user, with_session};
use crate::{Write, decide};
use reseal_core::session::Change;
use reseal_core::user::UserPatch;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

/// A decision that holds the writer until the returned end is dropped.
async fn hold(
    store: &Arc<SqliteStore>,
    id: SessionId,
) -> (Sender<()>, JoinHandle<Result<Option<()>, StoreError>>) {
    let (release, held): (_, Receiver<()>) = channel();
    let (begun, began) = tokio::sync::oneshot::channel();
    let (store, mut begun) = (Arc::clone(store), Some(begun));
    let task = tokio::spawn(async move {
        let decided = decide(&*store, id, UNTIL, move |_: &Snapshot| {
            if let Some(begun) = begun.take() {
                begun.send(()).unwrap();
                let _ = held.recv();
            }
            ((), Change::default())
        });
        decided.await
    });
    began.await.unwrap();
    (release, task)
}

fn put(name: &str) -> Write {
    Write::PutMeta(name.to_owned(), vec![1])
}

fn spawn_put(store: &Arc<SqliteStore>, name: String) -> JoinHandle<Result<(), CommitError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { commit(&*store, [put(&name)]).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_at_once_and_loses_nothing_it_took() {
    let folder = folder();
    let options = SqliteOptions { queue: 4, timeout: Duration::from_secs(60), ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(folder.path(), options).unwrap());
    let (_, session) = with_session(&*store, 1).await;
    let (release, held) = hold(&store, session.id).await;
    let waiting: Vec<_> = (0..4).map(|i| spawn_put(&store, format!("name {i}"))).collect();
    while store.queued() < 4 {
        tokio::task::yield_now().await;
    }
    // Answered while the writer is held, hence without waiting for it.
    let refused = commit(&*store, [put("one too many")]).await;
    match refused {
        Err(CommitError::Store(StoreError::Busy { retry_after })) => assert!(retry_after > Duration::ZERO),
        other => panic!("{other:?}"),
    }
    assert!(store.session(session.id).await.unwrap().is_some(), "reads do not wait for the writer");
    drop(release);
    held.await.unwrap().unwrap();
    for (i, task) in waiting.into_iter().enumerate() {
        assert!(store_has(&store, &format!("name {i}"), task).await);
    }
    assert_eq!(store.meta("one too many").await.unwrap(), None);
    commit(&*store, [put("later")]).await.unwrap();
}

async fn store_has(store: &SqliteStore, name: &str, task: JoinHandle<Result<(), CommitError>>) -> bool {
    let result = task.await.unwrap();
    let found = store.meta(name).await.unwrap().is_some();
    assert_eq!(result.is_ok(), found, "{name}: {result:?}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_hangs_is_waited_for_within_bounds_and_what_was_given_up_is_not_done() {
    let folder = folder();
    let options = SqliteOptions { timeout: Duration::from_millis(100), ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(folder.path(), options).unwrap());
    let (_, session) = with_session(&*store, 1).await;
    let (release, held) = hold(&store, session.id).await;
    let given_up = commit(&*store, [put("given up")]).await;
    assert!(matches!(given_up, Err(CommitError::Store(StoreError::Unavailable(_)))), "{given_up:?}");
    assert!(matches!(held.await.unwrap(), Err(StoreError::Unavailable(_))));
    drop(release);
    store.close();
    assert_eq!(store.meta("given up").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_finishes_what_is_queued_and_takes_no_more() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Access::Serve));
    let (_, session) = with_session(&*store, 1).await;
    let (release, held) = hold(&store, session.id).await;
    let queued: Vec<_> = (0..20).map(|i| spawn_put(&store, format!("name {i}"))).collect();
    while store.queued() < 20 {
        tokio::task::yield_now().await;
    }
    let closing = tokio::task::spawn_blocking({
        let store = Arc::clone(&store);
        move || store.close()
    });
    drop(release);
    closing.await.unwrap();
    held.await.unwrap().unwrap();
    for (i, task) in queued.into_iter().enumerate() {
        assert!(store_has(&store, &format!("name {i}"), task).await);
    }
    let late = commit(&*store, [put("late")]).await;
    assert!(matches!(late, Err(CommitError::Store(StoreError::Unavailable(_)))), "{late:?}");
    assert_eq!(store.meta("late").await.unwrap(), None);
}

/// Queues, while the writer is held, so that all of it is one batch.
async fn as_one_batch(
    store: &Arc<SqliteStore>,
    id: SessionId,
    commits: Vec<Vec<Write>>,
) -> Vec<Result<(), CommitError>> {
    let (release, held) = hold(store, id).await;
    let mut tasks = Vec::new();
    for writes in commits {
        let before = store.queued();
        let task_store = Arc::clone(store);
        tasks.push(tokio::spawn(async move { commit(&*task_store, writes).await }));
        while store.queued() == before {
            tokio::task::yield_now().await;
        }
    }
    drop(release);
    held.await.unwrap().unwrap();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test(flavor = "multi_thread")]
async fn one_commit_in_a_batch_is_undone_alone() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Access::Serve));
    let (_, session) = with_session(&*store, 1).await;
    let doomed = vec![put("doomed"), Write::CreateUser(Box::new(user(1)), secrets("x"))];
    let results =
        as_one_batch(&store, session.id, vec![vec![put("before")], doomed, vec![put("after")]]).await;
    assert!(matches!(results[..], [Ok(()), Err(CommitError::Conflict(_)), Ok(())]), "{results:?}");
    assert!(store.meta("before").await.unwrap().is_some());
    assert_eq!(store.meta("doomed").await.unwrap(), None);
    assert!(store.meta("after").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_committed_is_refused_whole_and_leaves_nothing_in_a_cache() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Access::Serve));
    let (user, session) = with_session(&*store, 1).await;
    let named = |name: &str| {
        let patch = UserPatch { name: Some(Some(name.to_owned())), ..UserPatch::default() };
        user.patched(&patch, crate::conformance::NOW).unwrap().unwrap()
    };
    let swap = |user| Write::SwapUser(Box::new(user), None);

    // In one batch: the record changes, and a decision sees the change. Then the commit fails.
    let (release, held) = hold(&store, session.id).await;
    let task_store = Arc::clone(&store);
    let undone = swap(named("undone"));
    let swapped = tokio::spawn(async move { commit(&*task_store, [undone]).await });
    while store.queued() == 0 {
        tokio::task::yield_now().await;
    }
    let (task_store, id) = (Arc::clone(&store), session.id);
    let decided = tokio::spawn(async move {
        decide(&*task_store, id, UNTIL, |s: &Snapshot| (s.user.name.clone(), Change::default())).await
    });
    while store.queued() < 2 {
        tokio::task::yield_now().await;
    }
    let (task_store, fault) = (Arc::clone(&store), Fault::CommitFails);
    let broken = tokio::spawn(async move { task_store.inject(fault).await });
    while store.queued() < 3 {
        tokio::task::yield_now().await;
    }
    drop(release);
    held.await.unwrap().unwrap();
    broken.await.unwrap().unwrap();
    assert!(matches!(swapped.await.unwrap(), Err(CommitError::Store(_))));
    assert!(decided.await.unwrap().is_err(), "its answer would have told of what was not committed");
    store.inject(Fault::None).await.unwrap();

    assert_eq!(store.session(session.id).await.unwrap().unwrap().user.name, user.name);
    commit(&*store, [swap(named("done"))]).await.unwrap();
    let seen = decide(&*store, session.id, UNTIL, |s: &Snapshot| (s.user.name.clone(), Change::default()));
    let seen = seen.await.unwrap().unwrap();
    assert_eq!(seen.as_deref(), Some("done"), "of the same version as the undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_breaks_a_batch_is_left_out_and_the_others_are_done() {
    let folder = folder();
    let store = Arc::new(open(folder.path(), Access::Serve));
    let (_, session) = with_session(&*store, 1).await;
    // A constraint that no precondition covers stands for a damaged page.
    raw(folder.path())
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON meta WHEN new.name = 'poison'
             BEGIN SELECT raise(ROLLBACK, 'poison'); END",
        )
        .unwrap();
    let commits = vec![vec![put("before")], vec![put("poison")], vec![put("after")]];
    let results = as_one_batch(&store, session.id, commits).await;
    assert!(matches!(results[..], [Ok(()), Err(CommitError::Store(_)), Ok(())]), "{results:?}");
    assert!(store.meta("before").await.unwrap().is_some() && store.meta("after").await.unwrap().is_some());
    assert_eq!(store.meta("poison").await.unwrap(), None);
}
