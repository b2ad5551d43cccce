//! The one thread that writes: it takes whatever is queued, commits it in one transaction, and only then
//! answers, so that one `fsync` serves all who wait.

mod apply;
#[cfg(any(test, feature = "conformance"))]
mod backing;
mod sweep;

pub(super) use sweep::Sweep;

use super::cache::Caches;
use super::fail::{self, Fail};
use crate::{Commit, CommitError, EndSessions, SessionUpdate, StoreError, Swept};
use apply::Tx;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Most items in one transaction. More gains nothing, and everybody waits for the last.
const BATCH: usize = 512;
/// How long to wait at a time for those who were answered last to come again, and how often.
const GATHER: Duration = Duration::from_micros(50);
const GATHER_TIMES: usize = 10;
/// Pages in the write-ahead log from which it is copied into the database, between two batches.
const CHECKPOINT_PAGES: i32 = 4000;
/// Bytes that the writer keeps parsed.
const CACHE_BYTES: usize = 4 << 20;
/// When to come again if the queue is full.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the writer can be asked to do.
pub(super) enum Work {
    Update(SessionUpdate),
    Commit(Commit),
    End(EndSessions),
    Sweep(Sweep),
    /// Whether writing is possible at all.
    Check,
    #[cfg(any(test, feature = "conformance"))]
    Inject(crate::conformance::Fault),
    #[cfg(any(test, feature = "conformance"))]
    WriteBack(Vec<crate::redis::Renewed>),
    #[cfg(any(test, feature = "conformance"))]
    Remove(Vec<reseal_core::Session>),
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Found(bool),
    Ended(usize),
    Swept(Swept),
}

struct Item {
    work: Work,
    reply: oneshot::Sender<Result<Answer, CommitError>>,
}

/// The way to the writer. Dropping it lets the writer finish what is queued, and waits for that.
pub(super) struct Writer {
    queue: RwLock<Option<SyncSender<Item>>>,
    thread: RwLock<Option<JoinHandle<()>>>,
    /// Items queued and not yet taken.
    waiting: Arc<AtomicUsize>,
    timeout: Duration,
}

impl Writer {
    /// Starts the thread on a connection that may write.
    pub(super) fn start(
        conn: Connection,
        log: Arc<watch::Sender<u64>>,
        queue: usize,
        timeout: Duration,
    ) -> std::io::Result<Self> {
        let (sender, items) = sync_channel(queue.max(1));
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = Queue { items, waiting: Arc::clone(&waiting) };
        let thread = std::thread::Builder::new()
            .name("reseal-writer".to_owned())
            .spawn(move || Loop::new(conn, log).run(&queue))?;
        Ok(Self { queue: RwLock::new(Some(sender)), thread: RwLock::new(Some(thread)), waiting, timeout })
    }

    /// Queues work and waits, within bounds, for the commit that it is part of.
    pub(super) async fn call(&self, work: Work) -> Result<Answer, CommitError> {
        let (reply, answer) = oneshot::channel();
        {
            let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
            let sender = queue.as_ref().ok_or_else(closed)?;
            // Counted first: the writer may take it before `try_send` returns.
            self.waiting.fetch_add(1, Ordering::Relaxed);
            sender.try_send(Item { work, reply }).map_err(|error| {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                match error {
                    TrySendError::Full(_) => StoreError::Busy { retry_after: RETRY_AFTER },
                    TrySendError::Disconnected(_) => closed(),
                }
            })?;
        }
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(closed().into()),
            Err(_) => Err(StoreError::Unavailable(format!("no commit within {:?}", self.timeout)).into()),
        }
    }

    /// How many items wait for the writer.
    pub(super) fn queued(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes no more work, finishes what is queued and folds the log into the database.
    pub(super) fn close(&self) {
        drop(self.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.write().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

/// The writer's end of the queue.
struct Queue {
    items: Receiver<Item>,
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// Waits for an item and takes with it what else is queued; `false`: nothing will ever come.
    ///
    /// When many were answered a moment ago they are about to come again: taking the first of them alone
    /// would make all others wait for a sync that serves nobody else. So this waits a little, as long as
    /// somebody comes.
    fn take(&self, batch: &mut Vec<Item>, expected: usize) -> bool {
        let Ok(first) = self.items.recv() else { return false };
        batch.push(first);
        for round in 0..GATHER_TIMES {
            let before = batch.len();
            batch.extend(self.items.try_iter().take(BATCH - before));
            let nobody_came = round > 0 && batch.len() == before;
            if nobody_came || batch.len() >= expected.min(BATCH) {
                break;
            }
            std::thread::park_timeout(GATHER);
        }
        self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        true
    }
}

struct Loop {
    conn: Connection,
    caches: Caches,
    /// Pages in the write-ahead log, as of the last commit.
    wal_pages: Arc<AtomicI32>,
    /// Whether the last batch failed. Then a check really writes.
    ailing: bool,
    /// Whether the open transaction logged events.
    logged: bool,
    /// Told of every commit that did.
    log: Arc<watch::Sender<u64>>,
}

/// Why a transaction came to nothing.
enum Aborted {
    /// That item broke it; the others can do without.
    By(usize, StoreError),
    /// No item would fare better.
    ForAll(StoreError),
}

impl Loop {
    fn new(mut conn: Connection, log: Arc<watch::Sender<u64>>) -> Self {
        let wal_pages = Arc::new(AtomicI32::new(0));
        let counter = Arc::clone(&wal_pages);
        let hooked = conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            counter.store(pages, Ordering::Relaxed);
            Ok(())
        }));
        if let Err(error) = hooked {
            tracing::error!(%error, "the size of the write-ahead log cannot be watched");
        }
        Self { conn, caches: Caches::new(CACHE_BYTES), wal_pages, ailing: false, logged: false, log }
    }

    fn run(mut self, queue: &Queue) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut expected = 1;
        while queue.take(&mut batch, expected) {
            expected = batch.len();
            // Whoever stopped waiting was told that nothing is known; better that nothing is done.
            batch.retain(|item| !item.reply.is_closed());
            #[cfg(any(test, feature = "conformance"))]
            self.inject_faults(&mut batch);
            let answers = self.commit_all(&mut batch);
            for (item, answer) in batch.drain(..).zip(answers) {
                // Nobody may be waiting any more; what was done stays done.
                let _ = item.reply.send(answer);
            }
            if self.wal_pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES {
                self.checkpoint();
            }
        }
        self.checkpoint();
    }

    /// Does all items in one transaction. An item that breaks it is left out and the rest done again.
    fn commit_all(&mut self, batch: &mut [Item]) -> Vec<Result<Answer, CommitError>> {
        let mut left_out: Vec<Option<StoreError>> = vec![None; batch.len()];
        loop {
            match self.try_commit(batch, &left_out) {
                Ok(answers) => {
                    self.ailing = false;
                    return answers;
                }
                Err(Aborted::By(i, error)) => {
                    self.roll_back();
                    tracing::error!(%error, "an item of a batch failed; the others are done again without it");
                    left_out[i] = Some(error);
                }
                Err(Aborted::ForAll(error)) => {
                    self.roll_back();
                    self.ailing = true;
                    tracing::error!(%error, items = batch.len(), "a batch failed");
                    if matches!(error, StoreError::Full(_)) {
                        // The log then begins again at its start, in space that it has.
                        self.checkpoint();
                    }
                    return left_out
                        .into_iter()
                        .map(|e| Err(e.unwrap_or_else(|| error.clone()).into()))
                        .collect();
                }
            }
        }
    }

    fn try_commit(
        &mut self,
        batch: &mut [Item],
        left_out: &[Option<StoreError>],
    ) -> Result<Vec<Result<Answer, CommitError>>, Aborted> {
        let for_all = |error: rusqlite::Error| Aborted::ForAll(fail::store_error(&error));
        self.statement("BEGIN IMMEDIATE").map_err(for_all)?;
        self.logged = false;
        let mut answers = Vec::with_capacity(batch.len());
        for (i, item) in batch.iter_mut().enumerate() {
            if let Some(error) = &left_out[i] {
                answers.push(Err(error.clone().into()));
                continue;
            }
            let answer = self.work(&mut item.work);
            answers.push(match answer {
                Err(Fail::Sqlite(error)) if fail::concerns_all(&error) => return Err(for_all(error)),
                Err(Fail::Sqlite(error)) => return Err(Aborted::By(i, fail::store_error(&error))),
                answer => answer.map_err(Fail::into_commit_error),
            });
        }
        self.statement("COMMIT").map_err(for_all)?;
        if self.logged {
            self.log.send_modify(|commits| *commits = commits.wrapping_add(1));
        }
        Ok(answers)
    }

    fn work(&mut self, work: &mut Work) -> fail::Result<Answer> {
        let mut tx = Tx { conn: &self.conn, caches: &mut self.caches, logged: &mut self.logged };
        match work {
            Work::Update(update) => tx.update(update).map(Answer::Found),
            Work::Commit(commit) => tx.commit(commit).map(|()| Answer::Done),
            Work::End(end) => tx.end_sessions(end).map(Answer::Ended),
            Work::Sweep(sweep) => tx.sweep(sweep).map(Answer::Swept),
            Work::Check if self.ailing => {
                const MARK: &str = "INSERT OR REPLACE INTO meta (name, value) VALUES ('check', x'')";
                self.conn.prepare_cached(MARK)?.execute([])?;
                Ok(Answer::Done)
            }
            Work::Check => Ok(Answer::Done),
            #[cfg(any(test, feature = "conformance"))]
            Work::Inject(_) => Ok(Answer::Done),
            #[cfg(any(test, feature = "conformance"))]
            Work::WriteBack(rows) => tx.write_back(rows).map(|()| Answer::Done),
            #[cfg(any(test, feature = "conformance"))]
            Work::Remove(sessions) => tx.remove(sessions).map(Answer::Ended),
        }
    }

    /// Faults come before the batch that they were queued with, in no transaction.
    #[cfg(any(test, feature = "conformance"))]
    fn inject_faults(&mut self, batch: &mut Vec<Item>) {
        for item in batch.extract_if(.., |item| matches!(item.work, Work::Inject(_))) {
            let Work::Inject(fault) = item.work else { continue };
            let done = super::faults::inject(&mut self.conn, fault);
            let _ = item.reply.send(done.map(|()| Answer::Done).map_err(Fail::into_commit_error));
        }
    }

    fn roll_back(&mut self) {
        // They may know what was never committed.
        self.caches.clear();
        // Some errors have rolled back already.
        if !self.conn.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Copies the log into the database, as far as nobody is reading it: waiting for readers would stop
    /// all writers. Failing is no loss: everything is in the log, and the next time tries again.
    fn checkpoint(&self) {
        let done = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::warn!(%error, "the write-ahead log could not be folded into the database");
        }
    }
}
