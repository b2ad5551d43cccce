//! Changes that commit in the backing store first: endings, step-ups, new cookie values, whatever logs an event.

use super::backing::Backing;
use super::batch::{ATTEMPTS, decide, renewal, renewed, swap};
use super::keys::{Stored, Swap, Swapped, life};
use super::lane::Item;
use super::link::Link;
use super::resolve::Current;
use super::row::{self, Hot};
use super::{Inner, RETRY_AFTER, count};
use crate::{Commit, CommitError, Conflict, StoreError, Write};
use reseal_core::Session;
use reseal_core::session::Change;
use std::sync::Arc;

/// How often a row is tried to be written that other nodes keep renewing. Then the next reader does it.
const APPLY_ATTEMPTS: usize = 4;

impl<B: Backing> Inner<B> {
    /// Does a change that is no renewal, beside the batches: a commit takes long. Refused if too many are
    /// under way.
    pub(super) fn change_privilege_soon(self: &Arc<Self>, item: Item) {
        let Ok(permit) = Arc::clone(&self.changes).try_acquire_owned() else {
            let _ = item.reply.send(Err(StoreError::Busy { retry_after: RETRY_AFTER }));
            return;
        };
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            let mut item = item;
            let done = inner.with_link(async |link| inner.change_privilege(link, &mut item).await).await;
            let _ = item.reply.send(done.and_then(|done| done));
        });
    }

    async fn change_privilege(&self, link: &mut Link, item: &mut Item) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            if item.reply.is_closed() {
                break;
            }
            let id = item.update.id;
            let current = match self.resolve(link, &[id]).await.pop() {
                Some(found) => found?,
                None => None,
            };
            let Some(mut current) = current else { return Ok(false) };
            if !self.make_again(link, &mut current).await? {
                continue;
            }
            let change = decide(&current, item)?;
            if change.is_empty() {
                return Ok(true);
            }
            if let Some((next, lines)) = renewal(&current.session, change.clone()) {
                current.session = next;
                if !self.renew(link, &current).await? {
                    continue;
                }
                let lines = Commit::of(lines.into_iter().map(Write::Timeline));
                return self.backing.commit(lines).await.map(|()| true).map_err(without_conflict);
            }
            match self.commit_change(link, &current, (change, item.update.event_until)).await {
                Ok(()) => return Ok(true),
                Err(CommitError::Conflict(Conflict::SessionChanged)) => count(&self.counters.conflicts, 1),
                Err(error) => return Err(without_conflict(error)),
            }
        }
        Err(StoreError::Busy { retry_after: RETRY_AFTER })
    }

    /// A row of a version that the backing store lost is made again before another change gets that version, or
    /// it would count as that change if Redis were not told of it. `false`: the row changed meanwhile.
    pub(super) async fn make_again(
        &self,
        link: &mut Link,
        current: &mut Current,
    ) -> Result<bool, StoreError> {
        if !current.ahead {
            return Ok(true);
        }
        let swap = swap(current);
        let row = Stored(swap.row.clone());
        match link.swap(&[swap]).await.pop() {
            Some(Swapped::Done { .. }) => {
                current.expected = row.head();
                current.ahead = false;
                Ok(true)
            }
            Some(Swapped::Failed(error)) => Err(error),
            Some(Swapped::Changed) | None => Ok(false),
        }
    }

    /// A renewal that was first taken for something else; `false`: the session changed meanwhile.
    async fn renew(&self, link: &mut Link, current: &Current) -> Result<bool, StoreError> {
        match link.swap(&[swap(current)]).await.pop() {
            Some(Swapped::Done { confirmed }) => {
                if !confirmed && link.waits_for_replicas() {
                    count(&self.counters.unconfirmed, 1);
                    let _ = self.backing.write_back(&[renewed(current)]).await;
                }
                Ok(true)
            }
            Some(Swapped::Failed(error)) => Err(error),
            Some(Swapped::Changed) | None => Ok(false),
        }
    }

    async fn commit_change(
        &self,
        link: &mut Link,
        current: &Current,
        (mut change, event_until): (Change, reseal_core::Timestamp),
    ) -> Result<(), CommitError> {
        let next = change.session.clone();
        let base = current.base.wrapping_add(1);
        if let Some(session) = &mut change.session {
            session.version = base;
        }
        let mut commit = Commit::default();
        commit.push_change(change, event_until);
        self.backing.commit(commit).await?;
        if let Some(next) = next {
            self.apply(link, current, (&next, base)).await;
        }
        Ok(())
    }

    /// Tells Redis of a change that has committed as `base`, seen from outside as `next`. It may fail: every
    /// reader sees that the row is behind, and makes it again.
    pub(super) async fn apply(&self, link: &mut Link, last: &Current, (next, base): (&Session, u32)) {
        #[cfg(test)]
        if self.crash_before_apply.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        if next.ended.is_some() {
            if !last.expected.is_empty() {
                link.forget(&[next.id]).await;
            }
            link.strike(next.user_id, &[next.id]).await;
            return;
        }
        self.known().learn(next);
        let (mut session, mut expected) = (next.clone(), last.expected.clone());
        for _ in 0..APPLY_ATTEMPTS {
            let row = row::encode(&session, base, next.idle_expires_at);
            let swap = Swap { id: next.id, expected, row, life: life(&session) };
            if !matches!(link.swap(&[swap]).await.pop(), Some(Swapped::Changed)) {
                return;
            }
            // Renewed meanwhile: the privilege is ours, the use is theirs.
            let Some(Ok(Some(stored))) = link.rows(&[next.id]).await.pop() else { return };
            let Ok(hot) = Hot::decode(&stored.0) else { return };
            if hot.base.wrapping_sub(base).cast_signed() >= 0 {
                // Somebody made it again already, or a later change came.
                return;
            }
            let ours = Hot::of(next, base, next.idle_expires_at);
            let later = if ours.is_later_than(&hot) { ours } else { hot };
            session = Hot { version: hot.version.wrapping_add(1), ..later }.on(next);
            expected = stored.head();
        }
    }
}

fn without_conflict(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        CommitError::Conflict(conflict) => StoreError::Internal(conflict.to_string()),
    }
}
