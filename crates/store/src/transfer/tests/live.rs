//! A source that is in use all the while: writers that never stop until they are refused.

use super::*;
use crate::{CommitError, EndFilter, EndSessions, Snapshot, decide};
use reseal_core::refresh::{OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::Change;
use reseal_core::{SessionId, User};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What writers were told is done.
#[derive(Default)]
struct Acknowledged {
    used: HashMap<SessionId, u64>,
    ended: Vec<SessionId>,
    values: HashMap<String, Vec<u8>>,
    deleted: Vec<usize>,
}

#[test]
fn whatever_was_acknowledged_is_in_the_target() {
    each_pair(async |pair, from, to| {
        for i in 0..300 {
            with_session(&*from.store, i).await;
        }
        fill_clients(&*from.store).await;
        let told = Arc::new(Mutex::new(Acknowledged::default()));
        let ended_by_freeze = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..8)
            .map(|task| {
                let (store, told) = (Arc::clone(&from.store), Arc::clone(&told));
                let refused = Arc::clone(&ended_by_freeze);
                tokio::spawn(async move {
                    for step in 0.. {
                        if write_something(&*store, task, step, &told).await.is_err() {
                            refused.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                })
            })
            .collect();
        // Small pages, so that much happens between them.
        let report = complete(&from, &to, 20).await;
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(ended_by_freeze.load(Ordering::Relaxed), 8, "{pair}");
        assert!(report.taken > 50, "{pair}: nothing happened meanwhile: {report:?}");
        assert_same(&from, &to).await;
        let told = Arc::into_inner(told).unwrap().into_inner().unwrap();
        assert!(told.used.len() > 10 && told.ended.len() > 3 && !told.deleted.is_empty());
        for (id, used) in told.used {
            let found = to.store.session(id).await.unwrap();
            assert!(found.is_none_or(|s| s.session.rotation.used >= used), "{pair}: {id}");
        }
        for id in told.ended {
            assert!(to.store.session(id).await.unwrap().is_none_or(|s| s.session.ended.is_some()));
        }
        for (name, value) in told.values {
            assert_eq!(to.store.meta(&name).await.unwrap(), Some(value));
        }
        for i in told.deleted {
            assert_eq!(to.store.user(user_id(i)).await.unwrap(), None, "{pair}: user {i}");
        }
    });
}

async fn fill_clients(store: &dyn Store) {
    for i in 0..50 {
        commit(store, [Write::CreateClient(Box::new(client(&format!("client{i}"))))]).await.unwrap();
    }
}

/// The next thing of that task; tasks keep to users and sessions of their own, but for the sweep.
async fn write_something(
    store: &dyn Store,
    task: usize,
    step: usize,
    told: &Mutex<Acknowledged>,
) -> Result<(), CommitError> {
    let i = task + 8 * (step % 30);
    match step % 10 {
        0..4 => {
            let id = session_id(i);
            if let Some(used) = renew(store, id).await? {
                told.lock().unwrap().used.insert(id, used);
            }
        }
        4 => {
            let name = format!("task {task}");
            let value = step.to_string().into_bytes();
            commit(store, [Write::PutMeta(name.clone(), value.clone())]).await?;
            told.lock().unwrap().values.insert(name, value);
        }
        5 => swap_names(store, (i, task + 8 * ((step + 1) % 30))).await?,
        6 => {
            // One who comes, and goes again.
            let n = 10_000 + 8 * step + task;
            let user = user(n);
            let session = session(n, &user);
            commit(store, [Write::CreateUser(Box::new(user.clone()), secrets("x")), start(&session)]).await?;
            let end = end(EndFilter::One(session.id));
            if step % 20 == 6 {
                let delete = Write::DeleteUser { user: user.id, version: 1, at: NOW };
                commit(store, [Write::EndSessions(end), delete]).await?;
                told.lock().unwrap().deleted.push(n);
            }
        }
        7 => {
            let id = session_id(240 + (task + 8 * step) % 60);
            store.end_sessions(end(EndFilter::One(id))).await?;
            told.lock().unwrap().ended.push(id);
        }
        8 => {
            if step == 8 {
                let changed = reseal_core::Client {
                    name: "renamed".to_owned(),
                    version: 2,
                    ..client(&format!("client{task}"))
                };
                commit(store, [Write::SwapClient(Box::new(changed))]).await?;
            }
            commit(store, [Write::CreateChallenge(Box::new(challenge(100_000 + 8 * step + task)))]).await?;
        }
        _ => {
            // What ended goes, and with it whom nobody remembers.
            let late = reseal_core::Timestamp::from_secs(NOW.secs() + 2 * 86_400);
            store.sweep(late, late, 5).await?;
        }
    }
    Ok(())
}

fn end(filter: EndFilter) -> EndSessions {
    EndSessions { filter, reason: EndReason::SignedOut, now: NOW, ip: None, event_until: UNTIL }
}

async fn renew(store: &dyn Store, id: SessionId) -> Result<Option<u64>, StoreError> {
    let decided = decide(store, id, UNTIL, |s: &Snapshot| {
        let Ok(token) = ring().successor(&s.session) else { return (None, Change::default()) };
        match rotate(&s.session, policy(), &token, OnRollback::Theft, (NOW, Presenter::default())) {
            Outcome::Issue { change, .. } => (change.session.as_ref().map(|s| s.rotation.used), change),
            _ => (None, Change::default()),
        }
    });
    Ok(decided.await?.flatten())
}

/// Two users take each other's name, in one commit or in three.
async fn swap_names(store: &dyn Store, (a, b): (usize, usize)) -> Result<(), CommitError> {
    let (Some(a), Some(b)) = (store.user(user_id(a)).await?, store.user(user_id(b)).await?) else {
        return Ok(());
    };
    let renamed = |user: &User, by: u32, name: &str| {
        let user = User { username: name.to_owned(), version: user.version + by, ..user.clone() };
        Write::SwapUser(Box::new(user), None)
    };
    let writes = [
        renamed(&a, 1, &format!("on the way {}", a.id)),
        renamed(&b, 1, &a.username),
        renamed(&a, 2, &b.username),
    ];
    if a.version % 2 == 0 {
        return commit(store, writes).await;
    }
    for write in writes {
        commit(store, [write]).await?;
    }
    Ok(())
}
