//! Clients.

use super::*;
use crate::{CommitError, Conflict, Write};
use reseal_core::Client;

pub async fn every_field_of_a_client_comes_back<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let mut all = Vec::new();
    for pair in sample(any_client(), 80).chunks(2) {
        let [client, next] = pair else { unreachable!("80 is even") };
        commit(&*store, [Write::CreateClient(Box::new(client.clone()))]).await.unwrap();
        assert_eq!(store.client(&client.id).await.unwrap().as_ref(), Some(client));
        let next = Client { id: client.id.clone(), version: client.version.wrapping_add(1), ..next.clone() };
        commit(&*store, [Write::SwapClient(Box::new(next.clone()))]).await.unwrap();
        all.push(next);
    }
    let store = reopen(&engine, store).await;
    for client in &all {
        assert_eq!(store.client(&client.id).await.unwrap().as_ref(), Some(client));
    }
    commit(&*store, [Write::DeleteClient(all[0].id.clone())]).await.unwrap();
    assert_eq!(store.client(&all[0].id).await.unwrap(), None);
}

pub async fn a_client_is_replaced_only_by_its_next_version<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let client = client("web");
    let create = Write::CreateClient(Box::new(client.clone()));
    commit(&*store, [create.clone()]).await.unwrap();
    let again = commit(&*store, [create]).await;
    assert!(matches!(again, Err(CommitError::Conflict(Conflict::ClientExists))), "{again:?}");
    for version in [0, 1, 3] {
        let wrong = Client { version, disabled: true, ..client.clone() };
        let swapped = commit(&*store, [Write::SwapClient(Box::new(wrong))]).await;
        assert!(matches!(swapped, Err(CommitError::Conflict(Conflict::ClientChanged))), "{swapped:?}");
    }
    assert_eq!(store.client(&client.id).await.unwrap(), Some(client));
}
