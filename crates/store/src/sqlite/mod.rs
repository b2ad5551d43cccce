//! The embedded engine: one SQLite file, one thread that writes, readers beside it.
//!
//! ```text
//! update_session ─┐                        ┌─ fsync, then every answer
//! commit ─────────┼─▶ bounded queue ─▶ one transaction per batch
//! sweep ──────────┘
//! session, user, … ─▶ read-only connections, which see every answered write
//! ```
//!
//! A write is answered after the commit of its batch has reached the disk (`synchronous=FULL`), so what
//! was answered survives a crash and a power failure. `rows` says how entities lie in the tables,
//! `schema` which tables there are.

#[cfg(any(test, feature = "conformance"))]
mod backing;
mod fail;
#[cfg(any(test, feature = "conformance"))]
mod faults;
mod folder;
mod maintenance;
mod open;
mod reader;
mod restore;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod transfer;
mod writer;

pub use crate::{Access, OpenError};
pub use maintenance::{BackupError, BackupProgress, Stats, quick_check_file};
pub use restore::{Restore, RestoreError};
pub use transfer::SqliteTransfer;

use crate::cache;
use crate::{Commit, CommitError, EndSessions, SessionUpdate, Snapshot, Store, StoreError, Swept};
use async_trait::async_trait;
use folder::{Alone, Folder, FolderLock};
use reader::Readers;
use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::KeyRecord;
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use rows::session::SessionRow;
use rows::{challenge, client, event, key, session, timeline, user};
use rusqlite::OptionalExtension as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use writer::{Answer, Sweep, Work, Writer};

/// How to open a data folder.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// What for.
    pub access: Access,
    /// Most writes that wait; more are refused at once.
    pub queue: usize,
    /// Longest wait for anything.
    pub timeout: Duration,
    /// The epoch that the feed of a new database gets: random, since it tells a restored or new log from
    /// the one a reader knew. All zero gives none.
    pub epoch: [u8; 16],
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { access: Access::Serve, queue: 4096, timeout: Duration::from_secs(5), epoch: [0; 16] }
    }
}

/// A data folder, open. Dropping it finishes what is queued.
pub struct SqliteStore {
    // In this order they are dropped: the last to close folds the log into the file, then the lock goes.
    readers: Readers,
    writer: Option<Writer>,
    folder: Folder,
    timeout: Duration,
    /// Changed by the writer; here so that it lives as long as the store.
    log: Arc<watch::Sender<u64>>,
    _lock: Option<FolderLock>,
    _share: Option<Alone>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the folder; makes it and the database in it if they are missing, and brings an older one up
    /// to date.
    pub fn open(folder: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let folder = Folder::new(folder);
        let opened = open::open(&folder, &options)?;
        let log = Arc::new(watch::Sender::new(0));
        let start = |conn| {
            Writer::start(conn, Arc::clone(&log), options.queue, options.timeout)
                .map_err(|error| OpenError::Io { path: folder.path().to_owned(), error })
        };
        Ok(Self {
            readers: Readers::new(opened.readers, options.timeout),
            writer: opened.writer.map(start).transpose()?,
            timeout: options.timeout,
            folder,
            log,
            _lock: opened.lock,
            _share: opened.share,
        })
    }

    /// Finishes what is queued and takes no more writes. Blocks; the folder stays locked until the store
    /// is dropped.
    pub fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.close();
        }
    }

    /// How many writes wait to be taken into a transaction, for a gauge.
    pub fn queued(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::queued)
    }

    async fn write(&self, work: Work) -> Result<Answer, CommitError> {
        match &self.writer {
            Some(writer) => writer.call(work).await,
            None => Err(StoreError::Unavailable("it was opened for reading only".to_owned()).into()),
        }
    }

    /// For work that has no preconditions.
    async fn write_plain(&self, work: Work) -> Result<Answer, StoreError> {
        self.write(work).await.map_err(|error| match error {
            CommitError::Store(error) => error,
            CommitError::Conflict(conflict) => StoreError::Internal(conflict.to_string()),
        })
    }

    /// Breaks something, or mends it.
    #[cfg(any(test, feature = "conformance"))]
    pub async fn inject(&self, fault: crate::conformance::Fault) -> Result<(), StoreError> {
        self.write_plain(Work::Inject(fault)).await.map(drop)
    }
}

/// As many events are read where they are asked for.
const AT_ONCE: usize = 64;

fn unexpected(answer: Answer) -> StoreError {
    StoreError::Internal(format!("the writer answered something else: {answer:?}"))
}

fn sessions(rows: Vec<SessionRow>) -> Vec<Session> {
    rows.into_iter().map(|row| row.session).collect()
}

#[async_trait]
impl Store for SqliteStore {
    async fn session(&self, id: SessionId) -> Result<Option<Snapshot>, StoreError> {
        self.readers
            .point(|r| Ok(session::snapshot(&r.conn, &mut r.caches, id)?.map(|(_, snapshot)| snapshot)))
            .await
    }

    async fn update_session(&self, update: SessionUpdate) -> Result<bool, StoreError> {
        match self.write_plain(Work::Update(update)).await? {
            Answer::Found(found) => Ok(found),
            other => Err(unexpected(other)),
        }
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.write(Work::Commit(commit)).await.map(drop)
    }

    async fn end_sessions(&self, end: EndSessions) -> Result<usize, StoreError> {
        match self.write_plain(Work::End(end)).await? {
            Answer::Ended(count) => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    async fn sessions_of_user(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.readers
            .list(move |r| {
                let Some(n) = user::number(&r.conn, user)? else { return Ok(Vec::new()) };
                session::of_user(&r.conn, &mut r.caches, n, (after, limit)).map(sessions)
            })
            .await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.readers.list(move |r| session::open(&r.conn, &mut r.caches, (after, limit)).map(sessions)).await
    }

    async fn timeline(&self, id: SessionId) -> Result<Vec<TimelineEntry>, StoreError> {
        self.readers.list(move |r| timeline::of(&r.conn, id)).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.readers.point(|r| user::by_id(&r.conn, id)).await
    }

    async fn user_by_username(&self, username: &str) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.readers.point(|r| user::with_secrets_by_username(&r.conn, username)).await
    }

    async fn user_secrets(&self, id: UserId) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.readers.point(|r| user::with_secrets_by_id(&r.conn, id)).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        self.readers.list(move |r| user::page(&r.conn, after, limit)).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        self.readers.point(|r| client::by_id(&r.conn, id)).await
    }

    async fn clients(&self, after: Option<&ClientId>, limit: usize) -> Result<Vec<Client>, StoreError> {
        let after = after.cloned();
        self.readers.list(move |r| client::page(&r.conn, after.as_ref(), limit)).await
    }

    async fn challenge(&self, id: &SecretHash) -> Result<Option<Challenge>, StoreError> {
        self.readers.point(|r| challenge::by_id(&r.conn, id)).await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.readers.point(|r| key::all(&r.conn)).await
    }

    async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        if limit <= AT_ONCE {
            // The tail of the log: handing it to another thread would cost more than reading it.
            return self.readers.point(|r| event::after(&r.conn, seq, limit)).await;
        }
        self.readers.list(move |r| event::after(&r.conn, seq, limit)).await
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        self.readers.point(|r| event::last(&r.conn)).await
    }

    fn log_changed(&self) -> watch::Receiver<u64> {
        self.log.subscribe()
    }

    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.readers
            .point(|r| {
                let mut statement = r.conn.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
                Ok(statement.query_row([name], |row| row.get(0)).optional()?)
            })
            .await
    }

    async fn sweep(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        match self.write_plain(Work::Sweep(Sweep { now, sessions_before, limit })).await? {
            Answer::Swept(swept) => Ok(swept),
            other => Err(unexpected(other)),
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.last_event().await?;
        self.write_plain(Work::Check).await.map(drop)
    }

    fn queued(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::queued)
    }
}
