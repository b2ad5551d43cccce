//! The mark in the backing store that Redis stands before it, and has what is newest of its sessions.

use crate::{Commit, CommitError, Store, StoreError, Write};

/// Its name among the values of the authority. Empty: no Redis stands there any more.
const MARK: &str = "hot_sessions";

/// Whether the newest of the store's sessions is in Redis, so that the store alone must not be served: it would
/// take the tokens of all who renewed for stolen.
pub async fn is_before(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.meta(MARK).await?.is_some_and(|value| !value.is_empty()))
}

/// Says so, or takes it back.
pub(super) async fn set(store: &dyn Store, before: bool) -> Result<(), StoreError> {
    if is_before(store).await? == before {
        return Ok(());
    }
    let value = if before { b"redis".to_vec() } else { Vec::new() };
    store.commit(Commit::of([Write::PutMeta(MARK.to_owned(), value)])).await.map_err(|error| match error {
        CommitError::Store(error) => error,
        CommitError::Conflict(conflict) => StoreError::Internal(conflict.to_string()),
    })
}
