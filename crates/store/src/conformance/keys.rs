//! Keys and named values.

use super::*;
use crate::Write;
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
        let replaced = KeyRecord { key_use: key.key_use.clone(), ..values };
        commit(&*store, [Write::PutKey(Box::new(replaced.clone()))]).await.unwrap();
        all.insert(replaced.key_use.clone(), replaced);
    }
    commit(&*store, [Write::DeleteKey(keys[3].key_use.clone())]).await.unwrap();
    all.remove(&keys[3].key_use);
    let store = reopen(&engine, store).await;
    let found = store.keys().await.unwrap().into_iter().map(|key| (key.key_use.clone(), key)).collect();
    assert_eq!(all, found);
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
