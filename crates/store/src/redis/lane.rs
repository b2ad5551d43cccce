//! Bounded queues of renewals, each with a task that takes whatever waits as one batch.

use super::backing::Backing;
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

/// The queues. Sessions are spread over them by id, so that two renewals of one session on this node never
/// race: they are decided one after the other in one batch.
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

/// Ids are random, so any bytes of them spread well.
fn lane(id: SessionId, count: usize) -> usize {
    let [a, b, ..] = *id.as_bytes();
    usize::from(u16::from_le_bytes([a, b])) % count
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

async fn run<B: Backing>(inner: Arc<Inner<B>>, mut items: mpsc::Receiver<Item>, waiting: Arc<AtomicUsize>) {
    let mut link = inner.new_link();
    let mut batch = Vec::new();
    loop {
        let taken = items.recv_many(&mut batch, BATCH).await;
        if taken == 0 {
            return;
        }
        waiting.fetch_sub(taken, Ordering::Relaxed);
        inner.do_batch(&mut link, std::mem::take(&mut batch)).await;
    }
}
