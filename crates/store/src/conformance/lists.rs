//! Lists in pages.

use super::*;
use crate::Write;
use reseal_core::{EndReason, Session};

/// Ends every third session.
async fn end_some<E: Engine>(store: &E::Store, sessions: &mut [Session]) {
    for session in sessions.iter_mut().step_by(3) {
        *session = session.end(EndReason::SignedOut, NOW, None).unwrap().session.unwrap();
        commit(store, [Write::SwapSession(Box::new(session.clone()))]).await.unwrap();
    }
}

pub async fn sessions_of_a_user_come_in_pages<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let user = with_user(&*store, 1).await;
    with_session(&*store, 100).await;
    let mut all: Vec<Session> = (0..25).map(|i| session(i, &user)).collect();
    commit(&*store, all.iter().map(start)).await.unwrap();
    end_some::<E>(&store, &mut all).await;
    all.sort_by_key(|s| s.id);
    let mut listed = Vec::new();
    loop {
        let after = listed.last().map(|s: &Session| s.id);
        let page = store.sessions_of_user(user.id, after, 4).await.unwrap();
        assert!(page.len() <= 4);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, all, "by id, ended or not");
    assert_eq!(store.sessions_of_user(user_id(99), None, 4).await.unwrap(), []);
}

pub async fn open_sessions_come_in_pages<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let users = [with_user(&*store, 1).await, with_user(&*store, 2).await];
    let mut all: Vec<Session> = (0..25).map(|i| session(i, &users[i % 2])).collect();
    commit(&*store, all.iter().map(start)).await.unwrap();
    end_some::<E>(&store, &mut all).await;
    all.retain(|s| s.ended.is_none());
    all.sort_by_key(|s| s.id);
    let mut listed = Vec::new();
    loop {
        let after = listed.last().map(|s: &Session| s.id);
        let page = store.open_sessions(after, 6).await.unwrap();
        assert!(page.len() <= 6);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, all);
}

pub async fn users_and_clients_come_in_pages<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let mut users = Vec::new();
    let mut clients = Vec::new();
    for i in 0..13 {
        users.push(with_user(&*store, i).await);
        clients.push(client(&format!("{}client-{i}", ["", "Z", "_"][i % 3])));
        commit(&*store, [Write::CreateClient(Box::new(clients[i].clone()))]).await.unwrap();
    }
    users.sort_by_key(|u| u.id);
    clients.sort_by(|a, b| a.id.cmp(&b.id));
    let mut listed = store.users(None, 5).await.unwrap();
    listed.extend(store.users(Some(listed[4].id), 5).await.unwrap());
    listed.extend(store.users(Some(listed[9].id), 5).await.unwrap());
    assert_eq!(listed, users);
    assert_eq!(store.users(Some(users[12].id), 5).await.unwrap(), []);
    let mut listed = store.clients(None, 7).await.unwrap();
    listed.extend(store.clients(Some(&listed[6].id.clone()), 7).await.unwrap());
    assert_eq!(listed, clients);
    assert_eq!(store.clients(Some(&clients[12].id), 7).await.unwrap(), []);
}
