//! Where sessions, users, clients and keys are kept: one small trait, and its engines.
//!
//! A store decides nothing. For the hot path it runs a pure decision next to the row
//! ([`Store::update_session`]); everything else is a [`Commit`]: a list of writes with their
//! preconditions, done together or not at all.
//!
//! To add an engine: implement [`Store`] in a module of its own, and run the suite of `conformance`
//! (feature of that name) against it. The suite says what the documentation of the trait leaves open.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod any;
mod cache;
mod cells;
mod commit;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod opening;
pub mod postgres;
pub mod redis;
pub mod sqlite;
pub mod transfer;
mod url;

pub use any::{AnyStore, StoreOptions};
pub use cells::{CellDecision, CellKey, CellUpdate, Cells};
pub use commit::{Commit, EndFilter, EndSessions, StartSession, Write};
pub use error::{CommitError, Conflict, StoreError};
pub use opening::{Access, OpenError};
pub use url::{EngineKind, InvalidUrl, Secret, StoreUrl};

use async_trait::async_trait;
use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::KeyRecord;
use reseal_core::refresh::Advance;
use reseal_core::session::Change;
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use std::sync::{Arc, Mutex};

/// A session and its user, read at one point in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The session's row.
    pub session: Session,
    /// The record of its user.
    pub user: Arc<User>,
}

/// A decision on one session, run by the engine next to the row.
///
/// It may be run more than once (the loser of a compare-and-swap re-reads and decides again), so it
/// must depend on nothing but its argument.
pub struct SessionUpdate {
    /// Which session.
    pub id: SessionId,
    /// `until` of the events that the change may contain.
    pub event_until: Timestamp,
    /// What the caller foresees, for engines that can write it in the same trip in which they read the row.
    pub advance: Option<Advance>,
    /// Decides what to write; an empty [`Change`] writes nothing.
    pub decide: Box<dyn FnMut(&Snapshot) -> Change + Send>,
}

/// The name of the [`Store::meta`] that tells this event log from any other: random bytes that change when
/// a backup is restored.
pub const FEED_EPOCH: &str = "feed_epoch";

/// What the sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions (with their timelines) that ended long ago.
    pub sessions: usize,
    /// Challenges that died.
    pub challenges: usize,
    /// Events past their `until`.
    pub events: usize,
}

impl Swept {
    /// Everything removed.
    pub const fn total(&self) -> usize {
        self.sessions + self.challenges + self.events
    }
}

/// A count since the start of the process, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name, as Prometheus would have it.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// How many.
    pub value: u64,
}

/// A store. Every answer that follows a write leaves after its commit.
///
/// All queues are bounded: a full one answers [`StoreError::Busy`], no call waits for ever.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The session with its user.
    async fn session(&self, id: SessionId) -> Result<Option<Snapshot>, StoreError>;

    /// Runs the decision on the session as it is and commits the change it returns, with its timeline
    /// and events, by compare-and-swap on (`version`, not ended). `false`: there is no such session.
    /// Use [`decide`] for a decision that returns something.
    async fn update_session(&self, update: SessionUpdate) -> Result<bool, StoreError>;

    /// Does all writes of the commit, or none.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError>;

    /// Ends sessions in a transaction of their own; how many have ended by it.
    async fn end_sessions(&self, end: EndSessions) -> Result<usize, StoreError>;

    /// Sessions of a user by id, those after `after`, `limit` at most; ended ones included.
    async fn sessions_of_user(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError>;

    /// All sessions that have not ended (they may have run out), by id, those after `after`.
    async fn open_sessions(&self, after: Option<SessionId>, limit: usize)
    -> Result<Vec<Session>, StoreError>;

    /// The session's timeline, oldest first.
    async fn timeline(&self, id: SessionId) -> Result<Vec<TimelineEntry>, StoreError>;

    /// The user.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user of that name (case does not matter) with the secrets.
    async fn user_by_username(&self, username: &str) -> Result<Option<(User, UserSecrets)>, StoreError>;

    /// The user's secrets with the record they belong to.
    async fn user_secrets(&self, id: UserId) -> Result<Option<(User, UserSecrets)>, StoreError>;

    /// Users by id, those after `after`, `limit` at most.
    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError>;

    /// The client.
    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError>;

    /// Clients by id, those after `after`, `limit` at most.
    async fn clients(&self, after: Option<&ClientId>, limit: usize) -> Result<Vec<Client>, StoreError>;

    /// The challenge.
    async fn challenge(&self, id: &SecretHash) -> Result<Option<Challenge>, StoreError>;

    /// All keys.
    async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError>;

    /// Events after `seq` in commit order, `limit` at most, past ones that are still there included.
    async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError>;

    /// The number of the newest event ever logged; 0 when there was none.
    async fn last_event(&self) -> Result<u64, StoreError>;

    /// Changes after each commit of this process that logged events, before it is answered. What it is
    /// counts for nothing, and what other processes log need not show: ask [`Store::last_event`] now and then.
    fn log_changed(&self) -> tokio::sync::watch::Receiver<u64>;

    /// A small named value of the authority itself (feed epoch, high-water marks, progress of an import).
    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes, in one short transaction, at most `limit` of each kind of outdated row: sessions whose
    /// end or deadline lies before `sessions_before`, challenges and events whose time is over at `now`.
    /// A session may stay for up to a day longer, so that no index must follow every renewal.
    async fn sweep(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError>;

    /// Whether the store answers reads and writes.
    async fn check(&self) -> Result<(), StoreError>;

    /// The clock of the store, where several nodes share one: they follow it, so that they agree. `None`:
    /// the store has no other clock than this machine's.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    /// The cells that all nodes share; `None` where only one process serves the store, whose memory will do.
    fn cells(&self) -> Option<&dyn Cells> {
        None
    }

    /// How many writes wait, for metrics; 0 where nothing queues.
    fn queued(&self) -> usize {
        0
    }

    /// What this process counted so far that only this kind of store knows, for metrics.
    fn counters(&self) -> Vec<Counter> {
        Vec::new()
    }
}

/// Runs a decision that also returns something for the caller; see [`Store::update_session`].
pub async fn decide<T: Send + 'static>(
    store: &dyn Store,
    id: SessionId,
    event_until: Timestamp,
    decision: impl FnMut(&Snapshot) -> (T, Change) + Send + 'static,
) -> Result<Option<T>, StoreError> {
    decide_foreseen(store, (id, event_until), None, decision).await
}

/// [`decide`] on a refresh token of which the caller foresees that it is the newest.
pub async fn decide_foreseen<T: Send + 'static>(
    store: &dyn Store,
    (id, event_until): (SessionId, Timestamp),
    advance: Option<Advance>,
    mut decision: impl FnMut(&Snapshot) -> (T, Change) + Send + 'static,
) -> Result<Option<T>, StoreError> {
    // The last run counts: it is the one whose change was committed.
    let slot = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&slot);
    let decide = Box::new(move |snapshot: &Snapshot| {
        let (value, change) = decision(snapshot);
        *answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(value);
        change
    });
    let found = store.update_session(SessionUpdate { id, event_until, advance, decide }).await?;
    let value = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    Ok(if found { value } else { None })
}
