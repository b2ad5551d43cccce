//! The queue of the hot path, and the lanes that empty it: while a batch is under way, the next one gathers.

use super::Inner;
use super::fail::RETRY_AFTER;
use crate::{SessionUpdate, StoreError};
use reseal_core::{Session, SessionId};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Most items in one statement. More gains little, and everybody waits for the last.
const BATCH: usize = 512;
/// How often others may run before a batch is taken that is smaller than the last one.
const GATHER: usize = 8;

/// Which of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Decisions that may write.
    Updates,
    /// Reads, which must not wait for anybody's commit.
    Reads,
}

/// A decision that waits for its turn.
pub(super) struct Item {
    pub(super) update: SessionUpdate,
    reply: oneshot::Sender<Result<bool, StoreError>>,
    /// How often it was tried.
    pub(super) tries: u32,
    pub(super) doubt: Doubt,
    /// Whether it spoils any batch that it is in with others.
    pub(super) alone: bool,
}

/// What a broken connection left open.
#[derive(Debug)]
pub(super) enum Doubt {
    /// Nothing.
    None,
    /// The prediction may be written.
    Advance,
    /// This may have been written over that version.
    Written { before: u32, next: Box<Session> },
}

impl Item {
    pub(super) fn answer(self, answer: Result<bool, StoreError>) {
        // Nobody may be waiting any more; what was done stays done.
        let _ = self.reply.send(answer);
    }
}

/// A bounded queue. Its lanes run as long as there is something in it.
pub(super) struct Lanes {
    state: Mutex<State>,
    capacity: usize,
    most: usize,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// In a batch that is under way: another with the same session would only wait for it.
    busy: HashSet<SessionId>,
    running: usize,
}

impl Lanes {
    pub(super) fn new(capacity: usize, most: usize) -> Self {
        Self { state: Mutex::default(), capacity, most }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many items wait or are under way.
    pub(super) fn queued(&self) -> usize {
        let state = self.state();
        state.items.len() + state.busy.len()
    }

    /// Takes the batch's items: each session once, and none that is under way elsewhere.
    fn take(&self) -> Option<Vec<Item>> {
        let mut state = self.state();
        let state = &mut *state;
        let mut batch = Vec::with_capacity(state.items.len().min(BATCH));
        let mut passed = Vec::new();
        while batch.len() < BATCH
            && passed.len() < 4 * BATCH
            && let Some(item) = state.items.pop_front()
        {
            // Whoever stopped waiting was told that nothing is known; better that nothing is done.
            if item.reply.is_closed() {
                continue;
            }
            let alone = item.alone && !batch.is_empty();
            if !alone && state.busy.insert(item.update.id) {
                let last = item.alone;
                batch.push(item);
                if last {
                    break;
                }
            } else {
                passed.push(item);
            }
        }
        for item in passed.into_iter().rev() {
            state.items.push_front(item);
        }
        if batch.is_empty() {
            // Those that are left wait for a session that is under way: its lane comes back for them.
            state.running -= 1;
            return None;
        }
        Some(batch)
    }

    fn waiting(&self) -> usize {
        self.state().items.len()
    }
}

/// Sessions under way, which others may take when it is dropped, be it by a panic.
struct Busy<'l> {
    lanes: &'l Lanes,
    ids: Vec<SessionId>,
    again: Vec<Item>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut state = self.lanes.state();
        for id in &self.ids {
            state.busy.remove(id);
        }
        // They have waited longest.
        for item in self.again.drain(..).rev() {
            state.items.push_front(item);
        }
    }
}

/// Counts a lane out if it panics.
struct Running<'l> {
    lanes: &'l Lanes,
    over: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.lanes.state().running -= 1;
        }
    }
}

impl Inner {
    fn lanes(&self, kind: Kind) -> &Lanes {
        match kind {
            Kind::Updates => &self.updates,
            Kind::Reads => &self.reads,
        }
    }

    /// Queues a decision and waits, within bounds, for the commit of what it changes.
    pub(super) async fn call(
        self: &Arc<Self>,
        kind: Kind,
        update: SessionUpdate,
    ) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        let begin = {
            let lanes = self.lanes(kind);
            let mut state = lanes.state();
            if state.items.len() >= lanes.capacity {
                return Err(StoreError::Busy { retry_after: RETRY_AFTER });
            }
            state.items.push_back(Item { update, reply, tries: 0, doubt: Doubt::None, alone: false });
            let begin = state.running < lanes.most;
            state.running += usize::from(begin);
            begin
        };
        if begin {
            tokio::spawn(Arc::clone(self).run_lane(kind));
        }
        match tokio::time::timeout(self.pool.timeout(), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Internal("a batch panicked".to_owned())),
            Err(_) => Err(StoreError::Unavailable(format!("no commit within {:?}", self.pool.timeout()))),
        }
    }

    /// Does batch after batch, until nothing is left.
    async fn run_lane(self: Arc<Self>, kind: Kind) {
        let lanes = self.lanes(kind);
        let mut running = Running { lanes, over: false };
        let mut expected = 0;
        loop {
            gather(lanes, expected).await;
            let Some(batch) = lanes.take() else { break };
            expected = batch.len();
            let ids = batch.iter().map(|item| item.update.id).collect();
            let mut busy = Busy { lanes, ids, again: Vec::new() };
            let (again, pause) = self.run_batch(kind, batch).await;
            busy.again = again;
            drop(busy);
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        running.over = true;
    }
}

/// Those who were answered a moment ago are about to come again: a batch of the first of them alone would make
/// all others wait for a commit that serves nobody else.
async fn gather(lanes: &Lanes, expected: usize) {
    let mut before = 0;
    for _ in 0..GATHER {
        let waiting = lanes.waiting();
        if waiting >= expected.min(BATCH) || (waiting > 0 && waiting == before) {
            break;
        }
        before = waiting;
        tokio::task::yield_now().await;
    }
}

/// How long a lane pauses after so many tries.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(10 << tries.min(5))
}
