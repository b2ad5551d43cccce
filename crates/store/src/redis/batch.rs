//! One batch of renewals: read all, decide each, write all, answer.

use super::backing::{Backing, Renewed};
use super::keys::{Swap, Swapped, life};
use super::lane::Item;
use super::link::Link;
use super::resolve::Current;
use super::row;
use super::{Inner, count};
use crate::{Commit, Snapshot, StoreError, Write};
use reseal_core::session::Change;
use reseal_core::{Session, SessionId};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How often a renewal is decided that keeps losing its compare-and-swap to other nodes.
pub(super) const ATTEMPTS: usize = 16;
/// Sessions that may be idle for longer than this outlive a loss of Redis: their deadlines are written back.
const LONG_LIVED: Duration = Duration::from_secs(3600);

/// After how long writing back is tried again: an outage of the backing store may last.
const WRITE_BACK_PAUSES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// What the decisions on one session came to.
struct Decided {
    current: Current,
    /// Whether the row changes.
    changed: bool,
    /// Lines for the timeline.
    lines: Vec<Write>,
    /// Those that are answered when that is done.
    waiting: Vec<Item>,
}

impl<B: Backing> Inner<B> {
    /// Does a batch and answers all of it.
    pub(super) async fn do_batch(self: &Arc<Self>, link: &mut Link, items: Vec<Item>) {
        let mut todo = items;
        for _ in 0..ATTEMPTS {
            // Whoever stopped waiting was told that nothing is known; better that nothing is done.
            todo.retain(|item| !item.reply.is_closed());
            if todo.is_empty() {
                return;
            }
            todo = self.attempt(link, todo).await;
            count(&self.counters.conflicts, todo.len());
        }
        for item in todo {
            let _ = item.reply.send(Err(StoreError::Busy { retry_after: super::RETRY_AFTER }));
        }
    }

    /// Tries all; those whose session changed meanwhile come back.
    async fn attempt(self: &Arc<Self>, link: &mut Link, items: Vec<Item>) -> Vec<Item> {
        let mut ids = Vec::new();
        let mut by_session: HashMap<SessionId, Vec<Item>> = HashMap::new();
        for item in items {
            let id = item.update.id;
            let of_session = by_session.entry(id).or_default();
            if of_session.is_empty() {
                ids.push(id);
            }
            of_session.push(item);
        }
        let found = self.resolve(link, &ids).await;
        let mut decided = Vec::with_capacity(ids.len());
        let mut stale = Vec::new();
        for (id, found) in ids.into_iter().zip(found) {
            let items = by_session.remove(&id).unwrap_or_default();
            match found {
                Ok(Some(current)) => {
                    if current.session.ended.is_some() && !current.expected.is_empty() {
                        stale.push(id);
                    }
                    decided.push(self.decide_all(current, items));
                }
                Ok(None) => answer(items, &Ok(false)),
                Err(error) => answer(items, &Err(error)),
            }
        }
        if !stale.is_empty() {
            link.forget(&stale).await;
        }
        self.write_all(link, decided).await
    }

    /// Runs the decisions on one session, each on what the one before left. What must commit in the backing
    /// store goes its own way.
    fn decide_all(self: &Arc<Self>, mut current: Current, items: Vec<Item>) -> Decided {
        let (mut changed, mut lines, mut waiting) = (false, Vec::new(), Vec::new());
        for mut item in items {
            match decide(&current, &mut item) {
                Err(error) => drop(item.reply.send(Err(error))),
                Ok(change) if change.is_empty() => {
                    if changed {
                        // It saw what is not written yet.
                        waiting.push(item);
                    } else {
                        let _ = item.reply.send(Ok(true));
                    }
                }
                Ok(change) => match renewal(&current.session, change) {
                    Some((next, of_it)) => {
                        current.session = next;
                        changed = true;
                        lines.extend(of_it.into_iter().map(Write::Timeline));
                        waiting.push(item);
                    }
                    None => self.change_privilege_soon(item),
                },
            }
        }
        Decided { current, changed, lines, waiting }
    }

    async fn write_all(self: &Arc<Self>, link: &mut Link, decided: Vec<Decided>) -> Vec<Item> {
        let mut writing: Vec<Decided> = Vec::with_capacity(decided.len());
        for one in decided {
            if one.changed || (one.current.untold && is_worth_keeping(&one.current.session)) {
                writing.push(one);
            }
        }
        if writing.is_empty() {
            return Vec::new();
        }
        let permit = Arc::clone(&self.write_backs).try_acquire_owned().ok();
        let mut late = Vec::new();
        if permit.is_some() {
            for one in writing.iter_mut().filter(|one| one.changed && lags(&one.current)) {
                one.current.saved = one.current.session.idle_expires_at;
                late.push(renewed(&one.current));
            }
        }
        let swaps: Vec<Swap> = writing.iter().map(|one| swap(&one.current)).collect();
        let outcomes = link.swap(&swaps).await;
        let (mut again, mut unconfirmed, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        let (mut done, mut put_in) = (Vec::new(), Vec::new());
        for (one, outcome) in writing.into_iter().zip(outcomes) {
            match outcome {
                Swapped::Done { confirmed } => {
                    if one.current.expected.is_empty() {
                        put_in.push(one.current.session.clone());
                    }
                    if !confirmed && one.changed {
                        count(&self.counters.unconfirmed, 1);
                        unconfirmed.push(renewed(&one.current));
                    }
                    lines.extend(one.lines);
                    done.extend(one.waiting);
                }
                Swapped::Changed => again.extend(one.waiting),
                Swapped::Failed(error) => answer(one.waiting, &Err(error)),
            }
        }
        // Its start was never told, or all was lost.
        link.note(&put_in.iter().collect::<Vec<_>>()).await;
        if link.waits_for_replicas() && !unconfirmed.is_empty() {
            // A refresh token mends a lost rotation, nothing mends a lost touch. If this fails, too, both the
            // replica and the backing store are away, and only a third failure would show.
            if let Err(error) = self.backing.write_back(&unconfirmed).await {
                tracing::warn!(%error, renewals = unconfirmed.len(), "renewals are on one server only");
            }
        }
        self.write_back_soon(permit, late);
        let result = if lines.is_empty() {
            Ok(true)
        } else {
            self.backing.commit(Commit { writes: lines }).await.map(|()| true).map_err(|error| match error {
                crate::CommitError::Store(error) => error,
                crate::CommitError::Conflict(conflict) => StoreError::Internal(conflict.to_string()),
            })
        };
        answer(done, &result);
        again
    }

    fn write_back_soon(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>, rows: Vec<Renewed>) {
        if rows.is_empty() {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            // The rows say already that it is done. Nobody else takes this turn meanwhile, so that what waits here
            // is bounded.
            for pause in WRITE_BACK_PAUSES {
                let Err(error) = inner.backing.write_back(&rows).await else { return };
                tracing::warn!(%error, sessions = rows.len(), "deadlines are not written back yet");
                tokio::time::sleep(pause).await;
            }
            if let Err(error) = inner.backing.write_back(&rows).await {
                tracing::error!(%error, sessions = rows.len(), "deadlines were not written back");
            }
        });
    }
}

/// Runs one decision.
pub(super) fn decide(current: &Current, item: &mut Item) -> Result<Change, StoreError> {
    let snapshot = Snapshot { session: current.session.clone(), user: Arc::clone(&current.user) };
    // A panicking decision fails its own item: the other items and this task go on.
    let change = catch_unwind(AssertUnwindSafe(|| (item.update.decide)(&snapshot)))
        .map_err(|_| StoreError::Internal("the decision panicked".to_owned()))?;
    if let Some(next) = &change.session {
        let last = &current.session;
        let follows = last.ended.is_none()
            && next.id == last.id
            && next.user_id == last.user_id
            && next.version == last.version.wrapping_add(1);
        if !follows {
            return Err(StoreError::Internal("the decision returned no successor of the row".to_owned()));
        }
    }
    Ok(change)
}

/// The next row and the lines of a rotation or a touch; `None` for any other change.
pub(super) fn renewal(last: &Session, change: Change) -> Option<(Session, Vec<reseal_core::TimelineEntry>)> {
    let next = change.session?;
    (change.events.is_empty() && row::is_renewal(last, &next)).then_some((next, change.timeline))
}

/// The swap that writes a session over what lies there.
pub(super) fn swap(current: &Current) -> Swap {
    Swap {
        id: current.session.id,
        expected: current.expected.clone(),
        row: row::encode(&current.session, current.base, current.saved),
        life: life(&current.session),
    }
}

pub(super) fn renewed(current: &Current) -> Renewed {
    let Session { id, rotation, renewed_at, idle_expires_at, expires_at, .. } = current.session;
    Renewed { id, version: current.base, rotation, renewed_at, idle_expires_at, expires_at }
}

/// Whether the backing store's deadline is more than half an idle time behind that of a long-lived session.
fn lags(current: &Current) -> bool {
    let session = &current.session;
    let idle = session.idle_expires_at.since(session.renewed_at);
    idle >= LONG_LIVED && session.idle_expires_at.since(current.saved) > idle / 2
}

/// Whether a session that Redis does not have may still be used, so that it is put there. Nothing but memory
/// hangs on it.
fn is_worth_keeping(session: &Session) -> bool {
    session.ended.is_none() && session.idle_expires_at > super::wall_clock()
}

fn answer(items: Vec<Item>, result: &Result<bool, StoreError>) {
    for item in items {
        // Nobody may be waiting any more; what was done stays done.
        let _ = item.reply.send(result.clone());
    }
}
