//! Ending sessions: one, a user's, a client's, everybody's.

use super::{Manage, ManageError};
use reseal_core::event::{EndReason, EventKind};
use reseal_core::{ClientId, SessionId};
use reseal_store::{Commit, EndFilter, EndSessions, Write};
use std::net::IpAddr;

/// Sessions ended in one transaction.
const BATCH: usize = 500;

/// What a batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedBatch {
    /// How many sessions it ended.
    pub ended: usize,
    /// Where the next one goes on; `None`: that was the last.
    pub next: Option<SessionId>,
}

impl Manage<'_> {
    /// Ends the sessions of a filter that have not ended, in one transaction.
    pub async fn end_sessions(
        &self,
        filter: EndFilter,
        reason: EndReason,
        ip: Option<IpAddr>,
    ) -> Result<(), ManageError> {
        let end = self.ending(filter, reason, ip);
        Ok(self.store.commit(Commit::of([end])).await?)
    }

    /// Ends the next batch of everybody's sessions (ASVS 7.4.5), after `after`, in the order of their ids.
    ///
    /// Going on to the last batch ends every session that had started when the first began, and never
    /// chases those that start meanwhile: that is why it walks the ids, and does not repeat until none
    /// is left.
    pub async fn end_batch(
        &self,
        after: Option<SessionId>,
        ip: Option<IpAddr>,
    ) -> Result<EndedBatch, ManageError> {
        let page = self.store.open_sessions(after, BATCH).await?;
        let writes: Vec<Write> = page
            .iter()
            .map(|session| self.ending(EndFilter::One(session.id), EndReason::Revoked, ip))
            .collect();
        let ended = writes.len();
        if ended > 0 {
            self.store.commit(Commit::of(writes)).await?;
        }
        let next = (ended == BATCH).then(|| page.last().map(|s| s.id)).flatten();
        Ok(EndedBatch { ended, next })
    }

    /// Ends a batch of a client's sessions; `true`: there may be more.
    pub(super) async fn end_batch_of_client(&self, client: &ClientId) -> Result<bool, ManageError> {
        let before = self.store.last_event().await?;
        let filter = EndFilter::Client { client: client.clone(), limit: BATCH };
        self.end_sessions(filter, EndReason::Revoked, None).await?;
        // Each end is one event: fewer than a batch of them (others' included) means that it was not full.
        let (mut seq, mut ended) = (before, 0);
        loop {
            let events = self.store.events_after(seq, BATCH).await?;
            let Some(last) = events.last() else { return Ok(false) };
            seq = last.seq;
            ended += events.iter().filter(|e| matches!(e.event.kind, EventKind::SessionEnded { .. })).count();
            if ended >= BATCH {
                return Ok(true);
            }
        }
    }

    /// The write that ends at most one batch of a client's sessions.
    pub(super) fn ending_of_client(&self, client: &ClientId) -> Write {
        let filter = EndFilter::Client { client: client.clone(), limit: BATCH };
        self.ending(filter, EndReason::Revoked, None)
    }

    fn ending(&self, filter: EndFilter, reason: EndReason, ip: Option<IpAddr>) -> Write {
        let Self { now, event_until, .. } = *self;
        Write::EndSessions(EndSessions { filter, reason, now, ip, event_until })
    }
}

/// Ends everybody's sessions, batch by batch, each at its own instant (`at` reads the clock), and tells
/// `progress` how many it were so far.
pub async fn end_all_sessions<'a>(
    at: impl Fn() -> Manage<'a>,
    mut progress: impl FnMut(usize),
) -> Result<usize, ManageError> {
    let (mut total, mut after) = (0, None);
    loop {
        let batch = at().end_batch(after, None).await?;
        total += batch.ended;
        progress(total);
        after = batch.next;
        if after.is_none() {
            return Ok(total);
        }
        tokio::task::yield_now().await;
    }
}
