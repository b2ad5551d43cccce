//! Keys and named values.

use super::*;
use crate::{CommitError, Conflict, Write};
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
