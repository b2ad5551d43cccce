//! The engine for more than one node: PostgreSQL (13 or newer), or what speaks its language.
//!
//! ```text
//! update_session ─▶ bounded queue ─▶ lanes: one statement per batch ─▶ its commit, then every answer
//! commit, end_sessions, sweep ─▶ a transaction each
//! session, user, … ─▶ a statement each
//! ```
//!
//! Everything is in the database: nothing that one node keeps is needed by another. A write is answered after
//! its commit; one of which nobody knows whether it was done is answered [`StoreError::Unavailable`]. What was
//! not done because of somebody else (a deadlock, a failover) is done again, within bounds.

mod address;
mod backing;
mod cells;
mod fail;
mod known;
mod lanes;
mod maintenance;
mod neighbours;
mod open;
mod pool;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod tls;
mod transfer;
mod tries;
mod tx;
mod update;

pub use maintenance::{PostgresStats, ServerInfo};
pub use neighbours::Neighbours;
pub use transfer::PostgresTransfer;

use crate::{
    Access, Cells, Commit, CommitError, EndSessions, OpenError, Secret, SessionUpdate, Snapshot, Store,
    StoreError, StoreUrl, Swept,
};
use async_trait::async_trait;
use fail::{Fail, Result};
use known::Known;
use lanes::{Kind, Lanes};
use pool::{Client, Pool};
use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::KeyRecord;
use reseal_core::session::Change;
use reseal_core::user::UserSecrets;
use reseal_core::{ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use rows::session::SessionRow;
use rows::{Columns, challenge, client, event, key, session, timeline, user};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How to open a database.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Where it is. `sslmode` is `verify-full` for hosts elsewhere unless the address says otherwise.
    pub url: StoreUrl,
    /// The password, unless the address has one.
    pub password: Option<Secret>,
    /// Most connections; at least 3.
    pub connections: usize,
    /// Most writes that wait; more are refused at once.
    pub queue: usize,
    /// Longest wait for anything.
    pub timeout: Duration,
    /// What for.
    pub access: Access,
    /// The epoch that the feed of a new database gets: random, since it tells a restored or new log from
    /// the one a reader knew. All zero gives none.
    pub epoch: [u8; 16],
}

impl PostgresOptions {
    /// The defaults for a database at that address.
    pub fn new(url: StoreUrl) -> Self {
        Self {
            url,
            password: None,
            connections: 8,
            queue: 4096,
            timeout: Duration::from_secs(5),
            access: Access::Serve,
            epoch: [0; 16],
        }
    }
}

/// A database, open.
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    known: Arc<Known>,
    access: Access,
    /// Hosts and database, for messages.
    shown: String,
    /// Decisions on sessions, and reads of them.
    updates: Lanes,
    reads: Lanes,
    /// Other writes that may wait or run.
    waiting: Arc<Semaphore>,
    queue: usize,
    /// How many connections transactions may have at once, and how many lists.
    transactions: Semaphore,
    lists: Semaphore,
    /// Changed by each commit that logged.
    log: watch::Sender<u64>,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("at", &self.inner.shown).finish_non_exhaustive()
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.inner.pool.close();
    }
}

/// A statement under way.
type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>;

impl PostgresStore {
    /// Opens the database; makes the tables if there are none, and brings older ones up to date, unless it is
    /// only to be read.
    pub async fn open(options: PostgresOptions) -> std::result::Result<Self, OpenError> {
        let opened = open::open(&options).await?;
        let connections = options.connections.max(pool::MIN_CONNECTIONS);
        let queue = options.queue.clamp(1, Semaphore::MAX_PERMITS);
        let inner = Arc::new(Inner {
            pool: opened.pool,
            known: opened.known,
            access: options.access,
            shown: opened.shown,
            updates: Lanes::new(queue, connections.div_ceil(4)),
            reads: Lanes::new(queue, connections.div_ceil(4)),
            waiting: Arc::new(Semaphore::new(queue)),
            queue,
            transactions: Semaphore::new(connections.div_ceil(2)),
            lists: Semaphore::new(connections.div_ceil(4)),
            log: watch::Sender::new(0),
        });
        Ok(Self { inner })
    }

    /// How many writes wait or run, for a gauge.
    pub fn queued(&self) -> usize {
        let inner = &self.inner;
        inner.updates.queued() + inner.queue.saturating_sub(inner.waiting.available_permits())
    }

    /// Hosts and database, as they may be shown.
    pub fn shown(&self) -> &str {
        &self.inner.shown
    }

    /// Runs statements that only read, again if the connection breaks.
    async fn read_with<T>(
        &self,
        work: impl for<'c> Fn(&'c Client) -> Work<'c, T>,
    ) -> std::result::Result<T, StoreError> {
        self.inner.read_with(work).await.map_err(Fail::into_store_error)
    }

    /// The same for what may take a while: such reads leave the others some connections.
    async fn list_with<T>(
        &self,
        work: impl for<'c> Fn(&'c Client) -> Work<'c, T>,
    ) -> std::result::Result<T, StoreError> {
        let _turn = self.inner.turn(&self.inner.lists).await.map_err(Fail::into_store_error)?;
        self.read_with(work).await
    }

    /// Runs a write to its end, also when nobody waits for it any more: a connection in the middle of a
    /// transaction could only be closed.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        self.detached_commit(work).await.map_err(|error| match error {
            CommitError::Store(error) => error,
            CommitError::Conflict(conflict) => StoreError::Internal(conflict.to_string()),
        })
    }

    async fn detached_commit<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> std::result::Result<T, CommitError> {
        if self.inner.access == Access::ReadOnly {
            return Err(read_only().into());
        }
        let permit = Arc::clone(&self.inner.waiting)
            .try_acquire_owned()
            .map_err(|_| StoreError::Busy { retry_after: fail::RETRY_AFTER })?;
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move {
            let _permit = permit;
            let _turn = inner.turn(&inner.transactions).await?;
            work.await
        });
        match task.await {
            Ok(done) => done.map_err(Fail::into_commit_error),
            Err(_) => Err(StoreError::Internal("a write panicked".to_owned()).into()),
        }
    }

    /// Executes SQL as it is: for tests that break something.
    #[cfg(any(test, feature = "conformance"))]
    pub async fn execute_raw(&self, sql: &str) -> std::result::Result<(), StoreError> {
        let run = async {
            let lease = self.inner.pool.lease().await?;
            lease.batch(sql).await
        };
        run.await.map_err(Fail::into_store_error)
    }
}

impl Inner {
    async fn read_with<T>(&self, work: impl for<'c> Fn(&'c Client) -> Work<'c, T>) -> Result<T> {
        let mut tries = self.tries();
        loop {
            let done = async {
                let mut lease = self.pool.lease().await?;
                let done = self.pool.within(work(&lease)).await;
                lease.settle(done)
            };
            match done.await {
                Err(fail) if fail.may_read_again() && tries.back_off().await => {}
                done => return done,
            }
        }
    }

    async fn turn<'s>(&self, of: &'s Semaphore) -> Result<tokio::sync::SemaphorePermit<'s>> {
        match tokio::time::timeout(self.pool.timeout(), of.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Fail::Away(StoreError::Busy { retry_after: fail::RETRY_AFTER })),
        }
    }

    async fn commit(&self, commit: &Commit) -> Result<()> {
        let mut tries = self.tries();
        loop {
            let done = async {
                let mut lease = self.pool.lease().await?;
                let done = self.pool.within(tx::commit(&mut lease, &self.known, commit)).await;
                lease.settle(done)
            };
            match done.await {
                Ok(logged) => {
                    if logged {
                        self.tell();
                    }
                    return Ok(());
                }
                Err(fail) if self.again(&fail, &mut tries).await => {}
                Err(fail) => return Err(fail),
            }
        }
    }

    async fn end_sessions(&self, end: &EndSessions) -> Result<usize> {
        let mut tries = self.tries();
        loop {
            let done = async {
                let mut lease = self.pool.lease().await?;
                let done = self.pool.within(tx::end_sessions(&mut lease, &self.known, end)).await;
                lease.settle(done)
            };
            match done.await {
                Ok(ended) => {
                    if ended > 0 {
                        self.tell();
                    }
                    return Ok(ended);
                }
                Err(fail) if self.again(&fail, &mut tries).await => {}
                Err(fail) => return Err(fail),
            }
        }
    }

    async fn sweep(&self, (now, before): (Timestamp, Timestamp), limit: usize) -> Result<Swept> {
        let mut lease = self.pool.lease().await?;
        let done = self.pool.within(tx::sweep(&mut lease, (now, before), limit)).await;
        lease.settle(done)
    }

    /// Tells whoever follows the log.
    fn tell(&self) {
        self.log.send_modify(|commits| *commits = commits.wrapping_add(1));
    }
}

fn read_only() -> StoreError {
    StoreError::Unavailable("it was opened for reading only".to_owned())
}

fn sessions(rows: Vec<SessionRow>) -> Vec<Session> {
    rows.into_iter().map(|row| row.session).collect()
}

#[async_trait]
impl Store for PostgresStore {
    async fn session(&self, id: SessionId) -> std::result::Result<Option<Snapshot>, StoreError> {
        let slot = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&slot);
        let decide = Box::new(move |snapshot: &Snapshot| {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
            Change::default()
        });
        let read = SessionUpdate { id, event_until: Timestamp::EPOCH, advance: None, decide };
        let found = self.inner.call(Kind::Reads, read).await?;
        let snapshot = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(snapshot.filter(|_| found))
    }

    async fn update_session(&self, update: SessionUpdate) -> std::result::Result<bool, StoreError> {
        if self.inner.access == Access::ReadOnly {
            return Err(read_only());
        }
        self.inner.call(Kind::Updates, update).await
    }

    async fn commit(&self, commit: Commit) -> std::result::Result<(), CommitError> {
        if commit.writes.is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        self.detached_commit(async move { inner.commit(&commit).await }).await
    }

    async fn end_sessions(&self, end: EndSessions) -> std::result::Result<usize, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.end_sessions(&end).await }).await
    }

    async fn sessions_of_user(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: usize,
    ) -> std::result::Result<Vec<Session>, StoreError> {
        let inner = &self.inner;
        self.list_with(|c| {
            let inner = Arc::clone(inner);
            Box::pin(async move {
                let Some(n) = user::number(c, user).await? else { return Ok(Vec::new()) };
                session::of_user(c, &inner.known, (n, after, limit)).await.map(sessions)
            })
        })
        .await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> std::result::Result<Vec<Session>, StoreError> {
        let inner = &self.inner;
        self.list_with(|c| {
            let inner = Arc::clone(inner);
            Box::pin(async move { session::open(c, &inner.known, (after, limit)).await.map(sessions) })
        })
        .await
    }

    async fn timeline(&self, id: SessionId) -> std::result::Result<Vec<TimelineEntry>, StoreError> {
        self.read_with(|c| Box::pin(timeline::of(c, id))).await
    }

    async fn user(&self, id: UserId) -> std::result::Result<Option<User>, StoreError> {
        self.read_with(|c| Box::pin(user::by_id(c, id))).await
    }

    async fn user_by_username(
        &self,
        username: &str,
    ) -> std::result::Result<Option<(User, UserSecrets)>, StoreError> {
        let username = username.to_owned();
        self.read_with(|c| Box::pin(user::with_secrets_by_username(c, username.clone()))).await
    }

    async fn user_secrets(&self, id: UserId) -> std::result::Result<Option<(User, UserSecrets)>, StoreError> {
        self.read_with(|c| Box::pin(user::with_secrets_by_id(c, id))).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> std::result::Result<Vec<User>, StoreError> {
        self.list_with(|c| Box::pin(user::page(c, after, limit))).await
    }

    async fn client(&self, id: &ClientId) -> std::result::Result<Option<reseal_core::Client>, StoreError> {
        self.read_with(|c| Box::pin(client::by_id(c, id.clone()))).await
    }

    async fn clients(
        &self,
        after: Option<&ClientId>,
        limit: usize,
    ) -> std::result::Result<Vec<reseal_core::Client>, StoreError> {
        self.list_with(|c| Box::pin(client::page(c, after.cloned(), limit))).await
    }

    async fn challenge(&self, id: &SecretHash) -> std::result::Result<Option<Challenge>, StoreError> {
        let id = *id;
        self.read_with(move |c| Box::pin(challenge::by_id(c, id))).await
    }

    async fn keys(&self) -> std::result::Result<Vec<KeyRecord>, StoreError> {
        self.read_with(|c| Box::pin(key::all(c))).await
    }

    async fn events_after(
        &self,
        seq: u64,
        limit: usize,
    ) -> std::result::Result<Vec<LoggedEvent>, StoreError> {
        self.read_with(move |c| Box::pin(event::after(c, seq, limit))).await
    }

    async fn last_event(&self) -> std::result::Result<u64, StoreError> {
        self.read_with(|c| Box::pin(event::last(c))).await
    }

    fn log_changed(&self) -> watch::Receiver<u64> {
        self.inner.log.subscribe()
    }

    async fn meta(&self, name: &str) -> std::result::Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.read_with(|c| {
            let name = name.clone();
            Box::pin(async move {
                let row = c.query_opt("SELECT value FROM meta WHERE name = $1", &[&name]).await?;
                row.map(|row| Columns::of(&row).take()).transpose()
            })
        })
        .await
    }

    async fn sweep(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> std::result::Result<Swept, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.sweep((now, sessions_before), limit).await }).await
    }

    async fn check(&self) -> std::result::Result<(), StoreError> {
        if self.inner.access == Access::ReadOnly {
            return self.last_event().await.map(drop);
        }
        let inner = Arc::clone(&self.inner);
        self.detached(async move { inner.check().await }).await
    }

    async fn time(&self) -> std::result::Result<Option<Timestamp>, StoreError> {
        self.read_with(|c| {
            Box::pin(async move {
                const TIME: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
                let row = c.query_opt(TIME, &[]).await?;
                row.map(|row| Columns::of(&row).time()).transpose()
            })
        })
        .await
    }

    fn cells(&self) -> Option<&dyn Cells> {
        Some(self)
    }

    fn queued(&self) -> usize {
        self.queued()
    }
}
