//! Decisions on sessions: read, decide, compare-and-swap.

use super::fail::{Fail, Result};
use super::rows::{session, uuid};
use super::{Inner, tx};
use crate::{SessionUpdate, Snapshot, StoreError};
use reseal_core::session::Change;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Inner {
    /// Decides on one session by itself.
    pub(super) async fn update_alone(&self, mut update: SessionUpdate) -> Result<bool> {
        let mut attempt = 0;
        loop {
            let done = async {
                let mut lease = self.pool.lease().await?;
                let done = self.pool.within(self.update_once(&mut lease, &mut update)).await;
                lease.settle(done)
            };
            match done.await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(fail) if self.again(&fail, &mut attempt).await => {}
                Err(fail) => return Err(fail),
            }
        }
    }

    /// `None`: somebody else was faster.
    async fn update_once(
        &self,
        lease: &mut super::pool::Lease,
        update: &mut SessionUpdate,
    ) -> Result<Option<bool>> {
        let id = uuid(*update.id.as_bytes());
        let found = session::snapshots(lease, &self.known, &[id]).await?.pop();
        let Some((numbers, snapshot)) = found else { return Ok(Some(false)) };
        let change = decide(update, &snapshot)?;
        if change.is_empty() {
            return Ok(Some(true));
        }
        let last = &snapshot.session;
        let written = tx::change(lease, &self.known, (last, numbers), (&change, update.event_until)).await?;
        if written && !change.events.is_empty() {
            self.tell();
        }
        Ok(written.then_some(true))
    }

    /// Whether the database can be written.
    pub(super) async fn check(&self) -> Result<()> {
        let mut lease = self.pool.lease().await?;
        let done = self.pool.within(async {
            const MARK: &str = "INSERT INTO meta (name, value) VALUES ('check', '')
                ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            lease.execute(MARK, &[]).await.map(drop)
        });
        let done = done.await;
        lease.settle(done)
    }
}

/// Runs the decision; one that panics fails alone.
fn decide(update: &mut SessionUpdate, snapshot: &Snapshot) -> Result<Change> {
    let change = catch_unwind(AssertUnwindSafe(|| (update.decide)(snapshot)))
        .map_err(|_| Fail::Item(StoreError::Internal("the decision panicked".to_owned())))?;
    if let Some(next) = &change.session {
        tx::check_successor(&snapshot.session, next)?;
    }
    Ok(change)
}
