//! What must follow when a backup was put in place: it holds sessions that were ended since, and knows nothing of
//! what was issued since (design §10).

use super::sessions::end_all_sessions;
use super::{ATTEMPTS, Manage, ManageError};
use reseal_core::UserId;
use reseal_core::event::{Event, EventKind, withdrawal_until};
use reseal_core::keys::{KeyRecord, KeyUse, give_up};
use reseal_store::{Commit, CommitError, Conflict, FEED_EPOCH, Store, StoreError, Write};

/// The name of the value that stands, and is not empty, from the first to the last step: no authority starts
/// between them.
const UNFINISHED: &str = "restore_unfinished";

/// Users raised in one transaction.
const BATCH: usize = 200;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Sessions ended.
    pub sessions_ended: usize,
    /// Signing keys withdrawn.
    pub keys_withdrawn: usize,
    /// Users whose revision was raised.
    pub users: usize,
}

/// Whether [`after_restore`] was begun and not finished.
pub async fn is_unfinished(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.meta(UNFINISHED).await?.is_some_and(|value| !value.is_empty()))
}

/// Makes a database that a backup was put into fit to be served, while no authority runs on it. `at` reads the
/// clock. Interrupted, it is done again from the start, and meanwhile no authority starts.
///
/// - All sessions end (`revoked`), unless they are to be kept, and all signing keys are withdrawn: of sessions and
///   users that came after the backup nobody knows here, only the signature of their tokens tells. The next start
///   of an authority makes new keys.
/// - The keys that refresh tokens and cookies are made with retire, and the next start makes one with a number that no
///   key since the backup has: what was made with those that are lost is refused, and its holder not told to come again.
/// - Every user's revision rises past any that may have been issued ([`reseal_core::user::RESTORED_REVISIONS`]), so that
///   whoever orders tokens by it takes the new ones; with sessions that are kept, the log tells it to verifiers.
/// - Their `auth_epoch` rises, which voids every challenge.
/// - The feed gets a new epoch: its readers start over.
pub async fn after_restore<'a>(
    at: impl Fn() -> Manage<'a>,
    keep_sessions: bool,
    mut progress: impl FnMut(Restored),
) -> Result<Restored, ManageError> {
    let mut done = Restored::default();
    let begun = Write::PutMeta(UNFINISHED.to_owned(), b"1".to_vec());
    at().store.commit(Commit::of([begun])).await?;
    at().give_up_ring().await?;
    if !keep_sessions {
        done.keys_withdrawn = at().withdraw_signing_keys().await?;
        done.sessions_ended =
            end_all_sessions(&at, |n| progress(Restored { sessions_ended: n, ..done })).await?;
    }
    let mut after = None;
    loop {
        let (raised, last) = at().raise_page(after, keep_sessions).await?;
        done.users += raised;
        progress(done);
        if last.is_none() {
            break;
        }
        after = last;
        tokio::task::yield_now().await;
    }
    let manage = at();
    let epoch = manage.random.bytes::<16>().to_vec();
    let finished =
        [Write::PutMeta(FEED_EPOCH.to_owned(), epoch), Write::PutMeta(UNFINISHED.to_owned(), Vec::new())];
    manage.store.commit(Commit::of(finished)).await?;
    Ok(done)
}

impl Manage<'_> {
    /// Raises a page of users; the last of it, unless there was none.
    async fn raise_page(
        &self,
        after: Option<UserId>,
        tell: bool,
    ) -> Result<(usize, Option<UserId>), ManageError> {
        for _ in 0..ATTEMPTS {
            let page = self.store.users(after, BATCH).await?;
            let Some(last) = page.last() else { return Ok((0, None)) };
            let mut commit = Commit::default();
            for old in &page {
                let new = old
                    .restored(self.now)
                    .ok_or(ManageError::Unfit("a revision cannot be raised any more"))?;
                let kind = EventKind::ClaimsChanged { sub: new.id, rev: new.revision };
                commit.push(Write::SwapUser(Box::new(new), None));
                if tell {
                    commit.push(Write::Log(Event { kind, until: self.event_until }));
                }
            }
            match self.store.commit(commit).await {
                // A command changed one of them meanwhile.
                Err(CommitError::Conflict(Conflict::UserChanged)) => {}
                committed => {
                    committed?;
                    return Ok((page.len(), Some(last.id)));
                }
            }
        }
        Err(ManageError::Contended)
    }

    /// Retires every key of the ring: what they made is still verified.
    async fn give_up_ring(&self) -> Result<(), ManageError> {
        let is_of_ring = |key: &&KeyRecord| matches!(key.key_use, KeyUse::Ring { .. });
        let keys = self.store.keys().await?;
        let retired = keys.iter().filter(is_of_ring).filter_map(|key| give_up(key, self.now));
        let writes: Vec<Write> = retired.map(|key| Write::PutKey(Box::new(key))).collect();
        if writes.is_empty() { Ok(()) } else { Ok(self.store.commit(Commit::of(writes)).await?) }
    }

    /// Withdraws every signing key and tells the log, without making others; how many there were.
    async fn withdraw_signing_keys(&self) -> Result<usize, ManageError> {
        let keys: Vec<KeyRecord> = self.store.keys().await?;
        let kid = |key: &KeyRecord| match &key.key_use {
            KeyUse::Signing { kid, .. } => Some(kid.clone()),
            KeyUse::Ring { .. } => None,
        };
        let withdrawn: Vec<String> = keys.iter().filter_map(kid).collect();
        let count = withdrawn.len();
        if count == 0 {
            return Ok(0);
        }
        let mut commit = Commit::default();
        for key in keys.iter().filter(|key| kid(key).is_some() && key.withdrawn_at.is_none()) {
            let retired_at = Some(key.retired_at.map_or(self.now, |t| t.min(self.now)));
            let gone = KeyRecord { withdrawn_at: Some(self.now), retired_at, ..key.clone() };
            commit.push(Write::PutKey(Box::new(gone)));
        }
        let kind = EventKind::KeysChanged { withdrawn };
        commit.push(Write::Log(Event { kind, until: withdrawal_until(self.now, self.event_until) }));
        self.store.commit(commit).await?;
        Ok(count)
    }
}
