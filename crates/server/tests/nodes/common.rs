//! Nodes, and their links to the store.

use crate::support::{ISSUER, Outbox, SERVICE, START, TestAuthority, client};
use async_trait::async_trait;
use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::KeyRecord;
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::random::Random;
use reseal_server::start::open_store;
use reseal_store::{
    Access, CellKey, CellUpdate, Cells, Commit, CommitError, EndSessions, SessionUpdate, Snapshot, Store,
    StoreError, Swept, Write,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A store that several nodes share.
pub struct Cluster {
    pub store: Arc<dyn Store>,
    pub cells: Arc<MemoryCells>,
    /// What its clock shows (milliseconds); `i64::MIN`: it has none.
    pub time: Arc<AtomicI64>,
    /// The clock of all nodes that are not given another.
    pub clock: Clock,
    pub outbox: Arc<Outbox>,
    config: Config,
    folder: Arc<tempfile::TempDir>,
}

impl Cluster {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { issuer: Some(ISSUER.to_owned()), ..Config::default() };
        config.store.data = folder.path().to_owned();
        let store = open_store(&config, &Random::new(), Access::Serve).await.unwrap().shared();
        for (id, policy) in [("sliding", "web"), ("refresh", "app"), ("cookie", "browser"), (SERVICE, "app")]
        {
            store.commit(Commit::of([Write::CreateClient(Box::new(client(id, policy)))])).await.unwrap();
        }
        Self {
            store,
            cells: Arc::default(),
            time: Arc::new(AtomicI64::new(i64::MIN)),
            clock: Clock::manual(START),
            outbox: Arc::default(),
            config,
            folder: Arc::new(folder),
        }
    }

    /// One more node.
    pub async fn node(&self) -> Node {
        self.node_with(|_| {}, self.clock.clone()).await
    }

    pub async fn node_with(&self, configure: impl FnOnce(&mut Config), clock: Clock) -> Node {
        let mut config = self.config.clone();
        configure(&mut config);
        let link = Arc::new(Link {
            store: Arc::clone(&self.store),
            cells: LinkedCells { cells: Arc::clone(&self.cells), is_cut: Arc::default() },
            time: Arc::clone(&self.time),
            logged: watch::Sender::new(0),
        });
        let is_cut = Arc::clone(&link.cells.is_cut);
        let over = (clock, Arc::clone(&self.outbox));
        let authority = TestAuthority::over(config, link, over, Arc::clone(&self.folder)).await;
        Node { authority, is_cut }
    }

    /// Moves the clock of all nodes.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

/// A node.
pub struct Node {
    pub authority: TestAuthority,
    is_cut: Arc<AtomicBool>,
}

impl Node {
    /// From now on it does not reach the store, or it does again.
    pub fn cut(&self, cut: bool) {
        self.is_cut.store(cut, Ordering::SeqCst);
    }
}

impl std::ops::Deref for Node {
    type Target = TestAuthority;

    fn deref(&self) -> &TestAuthority {
        &self.authority
    }
}

/// Cells in memory.
#[derive(Default)]
pub struct MemoryCells(pub Mutex<HashMap<CellKey, i64>>);

struct LinkedCells {
    cells: Arc<MemoryCells>,
    is_cut: Arc<AtomicBool>,
}

#[async_trait]
impl Cells for LinkedCells {
    async fn read(&self, keys: &[CellKey]) -> Result<Vec<Option<i64>>, StoreError> {
        reach(&self.is_cut)?;
        let cells = self.cells.0.lock().unwrap();
        Ok(keys.iter().map(|key| cells.get(key).copied()).collect())
    }

    async fn update(&self, mut update: CellUpdate) -> Result<(), StoreError> {
        reach(&self.is_cut)?;
        let mut cells = self.cells.0.lock().unwrap();
        let values: Vec<_> = update.keys.iter().map(|key| cells.get(key).copied()).collect();
        // As the loser of a race would have it run again.
        (update.decide)(&vec![None; values.len()]);
        let next = (update.decide)(&values);
        assert_eq!(next.len(), values.len());
        for (key, value) in update.keys.iter().zip(next) {
            if let Some(value) = value {
                cells.insert(*key, value);
            }
        }
        Ok(())
    }
}

/// A node's link to the store.
struct Link {
    store: Arc<dyn Store>,
    cells: LinkedCells,
    time: Arc<AtomicI64>,
    logged: watch::Sender<u64>,
}

fn reach(is_cut: &AtomicBool) -> Result<(), StoreError> {
    match is_cut.load(Ordering::SeqCst) {
        true => Err(StoreError::Unavailable("the link is cut".to_owned())),
        false => Ok(()),
    }
}

impl Link {
    fn reach(&self) -> Result<&dyn Store, StoreError> {
        reach(&self.cells.is_cut).map(|()| &*self.store)
    }

    /// A node is told of its own commits only.
    fn tell(&self) {
        self.logged.send_modify(|n| *n += 1);
    }
}

#[async_trait]
impl Store for Link {
    async fn session(&self, id: SessionId) -> Result<Option<Snapshot>, StoreError> {
        self.reach()?.session(id).await
    }

    async fn update_session(&self, update: SessionUpdate) -> Result<bool, StoreError> {
        let done = self.reach()?.update_session(update).await;
        self.tell();
        done
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let done = self.reach()?.commit(commit).await;
        self.tell();
        done
    }

    async fn end_sessions(&self, end: EndSessions) -> Result<usize, StoreError> {
        let done = self.reach()?.end_sessions(end).await;
        self.tell();
        done
    }

    async fn sessions_of_user(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.reach()?.sessions_of_user(user, after, limit).await
    }

    async fn open_sessions(&self, after: Option<SessionId>, n: usize) -> Result<Vec<Session>, StoreError> {
        self.reach()?.open_sessions(after, n).await
    }

    async fn timeline(&self, id: SessionId) -> Result<Vec<TimelineEntry>, StoreError> {
        self.reach()?.timeline(id).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.reach()?.user(id).await
    }

    async fn user_by_username(&self, username: &str) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.reach()?.user_by_username(username).await
    }

    async fn user_secrets(&self, id: UserId) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.reach()?.user_secrets(id).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        self.reach()?.users(after, limit).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        self.reach()?.client(id).await
    }

    async fn clients(&self, after: Option<&ClientId>, limit: usize) -> Result<Vec<Client>, StoreError> {
        self.reach()?.clients(after, limit).await
    }

    async fn challenge(&self, id: &SecretHash) -> Result<Option<Challenge>, StoreError> {
        self.reach()?.challenge(id).await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.reach()?.keys().await
    }

    async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        self.reach()?.events_after(seq, limit).await
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        self.reach()?.last_event().await
    }

    fn log_changed(&self) -> watch::Receiver<u64> {
        self.logged.subscribe()
    }

    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.reach()?.meta(name).await
    }

    async fn sweep(&self, now: Timestamp, before: Timestamp, limit: usize) -> Result<Swept, StoreError> {
        self.reach()?.sweep(now, before, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.reach()?.check().await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.reach()?;
        let time = self.time.load(Ordering::SeqCst);
        Ok((time != i64::MIN).then(|| Timestamp::from_millis(time)))
    }

    fn cells(&self) -> Option<&dyn Cells> {
        Some(&self.cells)
    }
}
