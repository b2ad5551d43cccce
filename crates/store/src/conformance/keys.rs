//! Keys and named values.

use super::*;
use crate::{Commit, CommitError, Conflict, Write};
use reseal_core::keys::{KeyRecord, KeyUse};
use std::collections::BTreeMap;

pub async fn every_field_of_a_key_comes_back<E: Engine>(engine: E) {
    let store = open(&engine).await;
    assert_eq!(store.keys().await.unwrap(), []);
    let keys = sample(any_key(), 40);
    let mut all: BTreeMap<KeyUse, KeyRecord> = BTreeMap::new();
    for key in &keys {
        commit(&*store, [Write::PutKey(Box::new(key.clone()))]).await.unwrap();
        all.insert(key.key_use.clone(), key.clone());
    }
    for (key, values) in keys.iter().zip(sample(any_key(), 50).split_off(40)) {
        let (key_use, sealed) = (key.key_use.clone(), key.sealed.clone());
        let withdrawn_at = key.withdrawn_at.or(values.withdrawn_at);
        let replaced = KeyRecord { key_use, sealed, withdrawn_at, ..values };
        commit(&*store, [Write::PutKey(Box::new(replaced.clone()))]).await.unwrap();
        all.insert(replaced.key_use.clone(), replaced);
    }
    commit(&*store, [Write::DeleteKey(keys[3].key_use.clone())]).await.unwrap();
    all.remove(&keys[3].key_use);
    let store = reopen(&engine, store).await;
    let found = store.keys().await.unwrap().into_iter().map(|key| (key.key_use.clone(), key)).collect();
    assert_eq!(all, found);
}

pub async fn a_withdrawn_key_stays_withdrawn<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let key = KeyRecord { withdrawn_at: None, ..sample(any_key(), 1).remove(0) };
    let put = |key: KeyRecord| commit(&*store, [Write::PutKey(Box::new(key))]);
    put(key.clone()).await.unwrap();
    put(KeyRecord { withdrawn_at: Some(NOW), ..key.clone() }).await.unwrap();
    // Decided on before the withdrawal, committed after it.
    put(KeyRecord { retired_at: Some(UNTIL), ..key.clone() }).await.unwrap();
    let found = store.keys().await.unwrap();
    assert_eq!((found[0].withdrawn_at, found[0].retired_at), (Some(NOW), Some(UNTIL)));
}

pub async fn a_key_never_gets_the_name_of_another<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let key = sample(any_key(), 1).remove(0);
    let other = KeyRecord { sealed: [&key.sealed[..], b"other"].concat(), ..key.clone() };
    commit(&*store, [Write::PutKey(Box::new(key.clone()))]).await.unwrap();
    let named = Write::PutMeta("undone".to_owned(), vec![]);
    let put = commit(&*store, [named, Write::PutKey(Box::new(other))]).await;
    assert!(matches!(put, Err(CommitError::Conflict(Conflict::KeyExists))), "{put:?}");
    assert_eq!(store.keys().await.unwrap(), [key]);
    assert_eq!(store.meta("undone").await.unwrap(), None);
}

pub async fn named_values_are_kept<E: Engine>(engine: E) {
    let store = open(&engine).await;
    assert_eq!(store.meta("import").await.unwrap(), None);
    let long = vec![0xff; 100_000];
    for value in [b"".to_vec(), b"line 7".to_vec(), long.clone()] {
        commit(&*store, [Write::PutMeta("import".to_owned(), value.clone())]).await.unwrap();
        assert_eq!(store.meta("import").await.unwrap(), Some(value));
    }
    let store = reopen(&engine, store).await;
    assert_eq!(store.meta("import").await.unwrap(), Some(long));
    assert_eq!(store.meta("Import").await.unwrap(), None, "names are exact");
}

pub async fn a_named_value_is_swapped_only_for_the_one_that_was_read<E: Engine>(engine: E) {
    let store = open(&engine).await;
    let swap = |before: Option<&[u8]>, value: &[u8]| Write::SwapMeta {
        name: "version".to_owned(),
        before: before.map(<[u8]>::to_vec),
        value: value.to_vec(),
    };
    let refused = |done: Result<(), CommitError>| {
        assert!(matches!(done, Err(CommitError::Conflict(Conflict::MetaChanged))), "{done:?}");
    };
    refused(commit(&*store, [swap(Some(b""), b"0")]).await);
    commit(&*store, [swap(None, b"1")]).await.unwrap();
    refused(commit(&*store, [Write::PutMeta("undone".to_owned(), vec![]), swap(None, b"2")]).await);
    refused(commit(&*store, [swap(Some(b"0"), b"2")]).await);
    commit(&*store, [swap(Some(b"1"), b"2")]).await.unwrap();
    commit(&*store, [swap(Some(b"2"), b"2")]).await.unwrap();
    assert_eq!(store.meta("version").await.unwrap(), Some(b"2".to_vec()));
    assert_eq!(store.meta("undone").await.unwrap(), None);

    // Of many who read the same value one is right.
    let swaps = (0..16u8).map(|n| {
        let (store, write) = (Arc::clone(&store), swap(Some(b"2"), &[n]));
        tokio::spawn(async move { store.commit(Commit::of([write])).await.is_ok() })
    });
    let mut done = 0;
    for swap in swaps.collect::<Vec<_>>() {
        done += usize::from(swap.await.unwrap());
    }
    assert_eq!(done, 1);
}
