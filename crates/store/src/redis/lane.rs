//! Bounded queues of renewals, each with a task that takes whatever waits as one batch.

use super::backing::Backing;
use super::keys::session_key;
use super::nodes::SLOTS;
use super::{Inner, RETRY_AFTER};
use crate::{SessionUpdate, StoreError};
use reseal_core::SessionId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Most renewals of one batch.
const BATCH: usize = 512;

/// A renewal and whoever waits for it.
pub(super) struct Item {
    pub(super) update: SessionUpdate,
    pub(super) reply: oneshot::Sender<Result<bool, StoreError>>,
}

/// The queues. Sessions are spread over them by slot: two renewals of one session on this node never race, for
/// they are decided one after the other in one batch; and a server that hangs holds up few of the queues.
pub(super) struct Lanes {
    queues: Vec<mpsc::Sender<Item>>,
    waiting: Arc<AtomicUsize>,
    patience: Duration,
}

impl Lanes {
    /// Starts the tasks; they end when the lanes are dropped.
    pub(super) fn start<B: Backing>(inner: &Arc<Inner<B>>, count: usize) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let each = inner.options.queue.div_ceil(count).max(1);
        let queues = (0..count)
            .map(|_| {
                let (sender, items) = mpsc::channel(each);
                tokio::spawn(run(Arc::clone(inner), items, Arc::clone(&waiting)));
                sender
            })
            .collect();
        Self { queues, waiting, patience: inner.options.patience }
    }

    /// Queues a renewal and waits, within bounds, for its answer.
    pub(super) async fn call(&self, update: SessionUpdate) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        let queue = &self.queues[lane(update.id, self.queues.len())];
        // Counted first: the task may take it before `try_send` returns.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        queue.try_send(Item { update, reply }).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Busy { retry_after: RETRY_AFTER },
                mpsc::error::TrySendError::Closed(_) => closed(),
            }
        })?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {:?}", self.patience))),
        }
    }

    /// How many wait to be taken into a batch.
    pub(super) fn queued(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

fn lane(id: SessionId, count: usize) -> usize {
    usize::from(session_key(id).0) * count / usize::from(SLOTS)
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

async fn run<B: Backing>(owner: Arc<Inner<B>>, mut items: mpsc::Receiver<Item>, waiting: Arc<AtomicUsize>) {
    let mut link = owner.new_link();
    let mut batch = Vec::new();
    loop {
        let taken = items.recv_many(&mut batch, BATCH).await;
        if taken == 0 {
            return;
        }
        waiting.fetch_sub(taken, Ordering::Relaxed);
        let (inner, items) = (Arc::clone(&owner), std::mem::take(&mut batch));
        // In a task of its own: one that panics leaves its batch without an answer, and the next go on.
        let done = tokio::spawn(async move {
            let mut link = link;
            inner.do_batch(&mut link, items).await;
            link
        });
        link = match done.await {
            Ok(link) => link,
            Err(error) => {
                tracing::error!(%error, "a batch of renewals failed");
                owner.new_link()
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::session_id;

    #[test]
    fn sessions_spread_over_all_lanes() {
        for count in [1, 2, 3, 4, 7, 256] {
            let mut each = vec![0; count];
            for i in 0..10_000 {
                each[lane(session_id(i), count)] += 1;
            }
            let mean = 10_000 / count;
            assert!(each.iter().all(|n| (mean / 4..=mean * 4).contains(n)), "{count}: {each:?}");
        }
    }
}
