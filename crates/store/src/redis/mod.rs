//! Hot sessions in Redis, everything else in a backing store.
//!
//! ```text
//! update_session ─▶ queue ─▶ a batch: rows from Redis and heads from the backing store, at once
//!                            decide ─▶ compare-and-swap in Redis (renewals) ─▶ answers
//!                                   └▶ commit in the backing store (all else) ─▶ row in Redis ─▶ answer
//! ```
//!
//! Redis may lose its last writes, or all. So only rotations and touches are written to it alone (a refresh
//! token that is ahead of its row mends what was lost, design §4); starts, endings and changes of privilege
//! commit in the backing store, and a row in Redis counts only together with the [`Head`] of the session there,
//! read in the same batch: it carries the version of the row whose privilege it has, and one that is behind is
//! made again before it is used. So there is nothing to repair after a crash, nothing to follow and nothing to
//! remember: an ended session and an old privilege are recognized whatever Redis says.
//!
//! The row in the backing store keeps the rotation and the deadlines of the last time that it was written. They
//! lag behind, never ahead; the sweep and `max_sessions` bring them up to date before they count, and long-lived
//! sessions do so by themselves, twice in their idle time at least, so that they outlive a loss of all of Redis.

mod backing;
mod batch;
mod commit;
mod keys;
mod lane;
mod link;
mod mark;
mod nodes;
mod privilege;
mod report;
mod resolve;
mod row;
mod sweep;
#[cfg(test)]
mod tests;
mod texts;
mod users;

pub use backing::{Backing, Edition, Head, Renewed};
pub use mark::is_before;
pub use report::NodeReport;

use crate::{
    Cells, Commit, CommitError, Counter, EndSessions, OpenError, Secret, SessionUpdate, Snapshot, Store,
    StoreError, StoreUrl, Swept,
};
use async_trait::async_trait;
use lane::Lanes;
use link::Link;
use nodes::Nodes;
use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::KeyRecord;
use reseal_core::session::Change;
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use texts::Known;
use tokio::sync::{Semaphore, watch};
use users::Users;

/// Bytes of long texts kept.
const TEXT_BYTES: usize = 8 << 20;
/// Bytes of users kept.
const USER_BYTES: usize = 16 << 20;
/// Connections for what is not a renewal: commits, lists, sweeps.
const LINKS: usize = 8;
/// Sessions that are written back together.
const WRITE_BACK_PAGE: usize = 1000;
/// When to come again if too much waits.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which certificates of servers are believed.
#[derive(Clone, Debug, Default)]
pub enum TlsRoots {
    /// Those of the system.
    #[default]
    System,
    /// These alone, in PEM.
    Pem(Vec<u8>),
}

/// How to reach Redis.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://HOST:PORT`, or `rediss://` for TLS; more than one names servers of a cluster.
    pub urls: Vec<StoreUrl>,
    /// Whether a single URL names a server of a cluster, too.
    pub cluster: bool,
    /// The user; without one Redis takes `default`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Whose certificates are believed.
    pub roots: TlsRoots,
    /// Connections to each server for renewals, and as many for reads.
    pub connections: usize,
    /// Most renewals and reads that wait; more are refused at once.
    pub queue: usize,
    /// Longest wait for an answer of Redis.
    pub timeout: Duration,
    /// Longest wait for anything.
    pub patience: Duration,
    /// How many replicas must have a renewal before it is answered. One that does not come within 100 ms is
    /// not waited for: the renewal is answered, counted, and a touch goes to the backing store, too.
    pub wait_replicas: u32,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            cluster: false,
            username: None,
            password: None,
            roots: TlsRoots::System,
            connections: 4,
            queue: 4096,
            timeout: Duration::from_secs(1),
            patience: Duration::from_secs(5),
            wait_replicas: 0,
        }
    }
}

impl RedisOptions {
    /// Whether it is a cluster.
    pub const fn cluster(&self) -> bool {
        self.cluster || self.urls.len() > 1
    }
}

impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("urls", &self.urls)
            .field("cluster", &self.cluster())
            .field("connections", &self.connections)
            .field("wait_replicas", &self.wait_replicas)
            .finish_non_exhaustive()
    }
}

/// What happened so far in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisFigures {
    /// Sessions that Redis did not have and the backing store did.
    pub missed: u64,
    /// Rows that were behind a change of privilege and were made again.
    pub behind: u64,
    /// Renewals that lost a compare-and-swap and were decided again.
    pub conflicts: u64,
    /// Renewals that were answered before a replica had them.
    pub unconfirmed: u64,
}

#[derive(Default)]
struct Counters {
    missed: AtomicU64,
    behind: AtomicU64,
    conflicts: AtomicU64,
    unconfirmed: AtomicU64,
}

/// Hot sessions in Redis over a backing store.
pub struct RedisStore<B: Backing> {
    inner: Arc<Inner<B>>,
    reads: Lanes,
    renewals: Lanes,
}

/// What all tasks share.
struct Inner<B> {
    backing: Arc<B>,
    nodes: Arc<Nodes>,
    options: RedisOptions,
    known: Mutex<Known>,
    users: Mutex<Users>,
    counters: Counters,
    /// Idle connections for what is not a renewal.
    links: Mutex<Vec<Link>>,
    turns: Semaphore,
    /// Turns to write back the deadlines of long-lived sessions.
    write_backs: Arc<Semaphore>,
    /// How many changes of privilege may be under way.
    changes: Arc<Semaphore>,
    /// A step that tests leave out, as a crash would.
    #[cfg(test)]
    crash_before_apply: std::sync::atomic::AtomicBool,
}

impl<B: Backing> std::fmt::Debug for RedisStore<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl<B: Backing> RedisStore<B> {
    /// Connects to Redis and looks whether it will do.
    pub async fn open(options: RedisOptions, backing: Arc<B>) -> Result<Self, OpenError> {
        let store = Self::unseen(options, backing)?;
        report::examine(&store.inner.nodes, &store.inner.options).await?;
        Ok(store)
    }

    /// Connects when it is needed: for tools, which can do much while Redis is away.
    pub fn unseen(options: RedisOptions, backing: Arc<B>) -> Result<Self, OpenError> {
        let nodes = Arc::new(Nodes::new(&options).map_err(OpenError::Options)?);
        let lanes = options.connections.clamp(1, 256);
        let inner = Arc::new(Inner {
            backing,
            nodes,
            known: Mutex::new(Known::new(TEXT_BYTES)),
            users: Mutex::new(Users::new(USER_BYTES)),
            counters: Counters::default(),
            links: Mutex::new(Vec::new()),
            turns: Semaphore::new(LINKS),
            write_backs: Arc::new(Semaphore::new(2)),
            changes: Arc::new(Semaphore::new(options.queue.clamp(1, 1 << 20))),
            #[cfg(test)]
            crash_before_apply: std::sync::atomic::AtomicBool::new(false),
            options,
        });
        let reads = Lanes::start(&inner, lanes);
        let renewals = Lanes::start(&inner, lanes);
        Ok(Self { inner, reads, renewals })
    }

    /// The store behind.
    pub fn backing(&self) -> &Arc<B> {
        &self.inner.backing
    }

    /// What happened so far.
    pub fn figures(&self) -> RedisFigures {
        let counters = &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RedisFigures {
            missed: read(&counters.missed),
            behind: read(&counters.behind),
            conflicts: read(&counters.conflicts),
            unconfirmed: read(&counters.unconfirmed),
        }
    }

    /// Notes in the backing store that it must not be served without Redis from now on ([`is_before`]).
    pub async fn stand_before(&self) -> Result<(), StoreError> {
        mark::set(&*self.inner.backing, true).await
    }

    /// Writes rotation and deadlines of all sessions into the backing store, which may be served without Redis
    /// then; of how many. To be done when nothing renews any more and before Redis is given up, or the store
    /// moves: a token ahead of its row is proof of a theft to a store that loses nothing.
    pub async fn write_back_all(&self) -> Result<usize, StoreError> {
        let (mut after, mut written) = (None, 0);
        loop {
            let page = self.inner.backing.open_sessions(after, WRITE_BACK_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            written += self.inner.write_back_of(&page).await?.len();
        }
        mark::set(&*self.inner.backing, false).await?;
        Ok(written)
    }

    /// Looks at each server, for `reseal doctor`.
    pub async fn report(&self) -> Result<Vec<NodeReport>, StoreError> {
        report::of(&self.inner.nodes).await
    }
}

impl<B> Inner<B> {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> std::sync::MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_link(&self) -> Link {
        Link::new(Arc::clone(&self.nodes), self.options.wait_replicas, self.options.timeout)
    }

    /// Runs something on connections that no renewal uses.
    async fn with_link<T>(&self, work: impl AsyncFnOnce(&mut Link) -> T) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(self.options.patience, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(StoreError::Busy { retry_after: RETRY_AFTER }) };
        let idle = self.links.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut link = idle.unwrap_or_else(|| self.new_link());
        let done = work(&mut link).await;
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        Ok(done)
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[async_trait]
impl<B: Backing> Store for RedisStore<B> {
    async fn session(&self, id: SessionId) -> Result<Option<Snapshot>, StoreError> {
        // A decision that changes nothing, so that reads are batched as renewals are.
        let seen = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&seen);
        let decide = Box::new(move |snapshot: &Snapshot| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
            Change::default()
        });
        let found = self
            .reads
            .call(SessionUpdate { id, event_until: Timestamp::EPOCH, advance: None, decide })
            .await?;
        let snapshot = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(snapshot.filter(|_| found))
    }

    async fn update_session(&self, update: SessionUpdate) -> Result<bool, StoreError> {
        self.renewals.call(update).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.inner.commit(commit).await
    }

    async fn end_sessions(&self, end: EndSessions) -> Result<usize, StoreError> {
        let filter = end.filter.clone();
        let ended = self.inner.backing.end_sessions(end).await?;
        if ended > 0 {
            self.inner.forget_ended(&[filter]).await;
        }
        Ok(ended)
    }

    async fn sessions_of_user(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let sessions = self.inner.backing.sessions_of_user(user, after, limit).await?;
        self.inner.brought_up_to_date(sessions).await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let sessions = self.inner.backing.open_sessions(after, limit).await?;
        self.inner.brought_up_to_date(sessions).await
    }

    async fn timeline(&self, id: SessionId) -> Result<Vec<TimelineEntry>, StoreError> {
        self.inner.backing.timeline(id).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.inner.backing.user(id).await
    }

    async fn user_by_username(&self, username: &str) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.inner.backing.user_by_username(username).await
    }

    async fn user_secrets(&self, id: UserId) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.inner.backing.user_secrets(id).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        self.inner.backing.users(after, limit).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        self.inner.backing.client(id).await
    }

    async fn clients(&self, after: Option<&ClientId>, limit: usize) -> Result<Vec<Client>, StoreError> {
        self.inner.backing.clients(after, limit).await
    }

    async fn challenge(&self, id: &SecretHash) -> Result<Option<Challenge>, StoreError> {
        self.inner.backing.challenge(id).await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.inner.backing.keys().await
    }

    async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        self.inner.backing.events_after(seq, limit).await
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        self.inner.backing.last_event().await
    }

    fn log_changed(&self) -> watch::Receiver<u64> {
        self.inner.backing.log_changed()
    }

    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.backing.meta(name).await
    }

    async fn sweep(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        self.inner.sweep(now, sessions_before, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.backing.check().await?;
        report::ping(&self.inner.nodes).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.backing.time().await
    }

    fn cells(&self) -> Option<&dyn Cells> {
        self.inner.backing.cells()
    }

    fn queued(&self) -> usize {
        self.inner.backing.queued() + self.renewals.queued()
    }

    fn counters(&self) -> Vec<Counter> {
        let RedisFigures { missed, behind, conflicts, unconfirmed } = self.figures();
        let mut counters = self.inner.backing.counters();
        counters.extend([
            Counter {
                name: "reseal_redis_missed_total",
                help: "Sessions that Redis did not have and PostgreSQL did.",
                value: missed,
            },
            Counter {
                name: "reseal_redis_behind_total",
                help: "Rows in Redis that were behind a change of privilege, and were made again.",
                value: behind,
            },
            Counter {
                name: "reseal_redis_conflicts_total",
                help: "Renewals that were decided again because the session had changed meanwhile.",
                value: conflicts,
            },
            Counter {
                name: "reseal_redis_unconfirmed_total",
                help: "Renewals that were answered before a replica had them.",
                value: unconfirmed,
            },
        ]);
        counters
    }
}

/// The time of this machine. It decides nothing but whether to look twice, and whether a session is worth memory.
#[expect(clippy::disallowed_methods, reason = "no rule and no deadline hangs on it")]
fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH + since
}
