//! A store that can hold one commit back, so that a race has the order that the test needs.

use async_trait::async_trait;
use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::KeyRecord;
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use reseal_store::{
    Cells, Commit, CommitError, EndSessions, SessionUpdate, Snapshot, Store, StoreError, Swept,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{oneshot, watch};

/// Hands everything on to the real store.
pub struct Gate {
    store: Arc<dyn Store>,
    hold: Mutex<Option<Hold>>,
    hold_keys: Mutex<Option<Hold>>,
    log_broken: AtomicBool,
    log_readings: AtomicUsize,
    keys_broken: AtomicBool,
    sessions_broken: AtomicBool,
}

type Hold = (oneshot::Sender<()>, oneshot::Receiver<()>);

/// A commit that is to be held, or is.
pub struct Held {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Gate {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            hold: Mutex::new(None),
            hold_keys: Mutex::new(None),
            log_broken: AtomicBool::new(false),
            log_readings: AtomicUsize::new(0),
            keys_broken: AtomicBool::new(false),
            sessions_broken: AtomicBool::new(false),
        }
    }

    /// From now on the event log cannot be read, or it can again.
    pub fn break_log(&self, broken: bool) {
        self.log_broken.store(broken, Ordering::SeqCst);
    }

    /// How often somebody began to read the event log.
    pub fn log_readings(&self) -> usize {
        self.log_readings.load(Ordering::SeqCst)
    }

    /// From now on the keys cannot be read, or they can again.
    pub fn break_keys(&self, broken: bool) {
        self.keys_broken.store(broken, Ordering::SeqCst);
    }

    /// From now on no session can be read, or they can again.
    pub fn break_sessions(&self, broken: bool) {
        self.sessions_broken.store(broken, Ordering::SeqCst);
    }

    async fn log(&self) -> Result<(), StoreError> {
        self.log_readings.fetch_add(1, Ordering::SeqCst);
        // Others come while it is under way.
        tokio::task::yield_now().await;
        broken(self.log_broken.load(Ordering::SeqCst))
    }

    /// Holds back what the next reading of the keys finds.
    pub fn hold_next_keys(&self) -> Held {
        let (reaching, reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        *self.hold_keys.lock().unwrap() = Some((reaching, released));
        Held { reached, release }
    }

    /// Holds the next commit from now on.
    pub fn hold_next_commit(&self) -> Held {
        let (reaching, reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        *self.hold.lock().unwrap() = Some((reaching, released));
        Held { reached, release }
    }
}

impl Held {
    /// Waits until a commit is held. Everything it was decided on has been read.
    pub async fn reached(&mut self) {
        (&mut self.reached).await.expect("no commit came");
    }

    /// Lets it go on.
    pub fn release(self) {
        self.release.send(()).expect("the commit was given up");
    }
}

fn broken(is_broken: bool) -> Result<(), StoreError> {
    if is_broken { Err(StoreError::Unavailable("broken on purpose".to_owned())) } else { Ok(()) }
}

#[async_trait]
impl Store for Gate {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let held = self.hold.lock().unwrap().take();
        if let Some((reaching, released)) = held {
            reaching.send(()).expect("the test waits for it");
            released.await.expect("the test releases it");
        }
        self.store.commit(commit).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Snapshot>, StoreError> {
        broken(self.sessions_broken.load(Ordering::SeqCst))?;
        self.store.session(id).await
    }

    async fn update_session(&self, update: SessionUpdate) -> Result<bool, StoreError> {
        self.store.update_session(update).await
    }

    async fn end_sessions(&self, end: EndSessions) -> Result<usize, StoreError> {
        self.store.end_sessions(end).await
    }

    async fn sessions_of_user(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.store.sessions_of_user(user, after, limit).await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.store.open_sessions(after, limit).await
    }

    async fn timeline(&self, id: SessionId) -> Result<Vec<TimelineEntry>, StoreError> {
        self.store.timeline(id).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.store.user(id).await
    }

    async fn user_by_username(&self, username: &str) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.store.user_by_username(username).await
    }

    async fn user_secrets(&self, id: UserId) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.store.user_secrets(id).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        self.store.users(after, limit).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        self.store.client(id).await
    }

    async fn clients(&self, after: Option<&ClientId>, limit: usize) -> Result<Vec<Client>, StoreError> {
        self.store.clients(after, limit).await
    }

    async fn challenge(&self, id: &SecretHash) -> Result<Option<Challenge>, StoreError> {
        self.store.challenge(id).await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        broken(self.keys_broken.load(Ordering::SeqCst))?;
        let held = self.hold_keys.lock().unwrap().take();
        let keys = self.store.keys().await;
        if let Some((reaching, released)) = held {
            reaching.send(()).expect("the test waits for it");
            released.await.expect("the test releases it");
        }
        keys
    }

    async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        self.log().await?;
        self.store.events_after(seq, limit).await
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        self.log().await?;
        self.store.last_event().await
    }

    fn log_changed(&self) -> watch::Receiver<u64> {
        self.store.log_changed()
    }

    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.meta(name).await
    }

    async fn sweep(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        self.store.sweep(now, sessions_before, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.time().await
    }

    fn cells(&self) -> Option<&dyn Cells> {
        self.store.cells()
    }
}
