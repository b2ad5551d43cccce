//! Whichever store the configuration names, behind one door.

use crate::postgres::{PostgresOptions, PostgresStore};
use crate::redis::{self, RedisOptions, RedisStore};
use crate::sqlite::{SqliteOptions, SqliteStore};
use crate::{
    Access, Cells, Commit, CommitError, Counter, EndSessions, EngineKind, OpenError, Secret, SessionUpdate,
    Snapshot, Store, StoreError, StoreUrl, Swept,
};
use async_trait::async_trait;
use reseal_core::challenge::Challenge;
use reseal_core::client::SecretHash;
use reseal_core::event::LoggedEvent;
use reseal_core::keys::KeyRecord;
use reseal_core::user::UserSecrets;
use reseal_core::{Client, ClientId, Session, SessionId, TimelineEntry, Timestamp, User, UserId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Where a store is and how to open it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// SQLite's folder, where no URL says otherwise.
    pub data: PathBuf,
    /// A database server (or `sqlite:FOLDER`).
    pub url: Option<StoreUrl>,
    /// Its password, where the URL holds none.
    pub password: Option<Secret>,
    /// Hot sessions in Redis, everything else in the database server.
    pub redis: Option<RedisOptions>,
    /// Most connections to a database server.
    pub connections: usize,
    /// What for.
    pub access: Access,
    /// Most writes that wait; more are refused at once.
    pub queue: usize,
    /// Longest wait for anything.
    pub timeout: Duration,
    /// The epoch that the feed of a new database gets: random. All zero gives none.
    pub epoch: [u8; 16],
}

/// An open store of any engine. Cheap to clone; [`AnyStore::close`] ends it.
///
/// A server takes the engine itself out of it ([`AnyStore::shared`]), so that this door costs its requests
/// nothing; tools ask for what only one engine has (`as_sqlite` and so on).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyStore {
    /// The embedded engine.
    Sqlite(Arc<SqliteStore>),
    /// PostgreSQL.
    Postgres(Arc<PostgresStore>),
    /// PostgreSQL with hot sessions in Redis.
    Redis(Arc<RedisStore<PostgresStore>>),
}

impl AnyStore {
    /// Opens what the options name. An absent database server is an error at once
    /// ([`OpenError::is_away`]): whether to wait is the caller's affair.
    pub async fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let kind = options.url.as_ref().map(StoreUrl::kind);
        if options.redis.is_some() && kind != Some(EngineKind::Postgres) {
            return Err(redis_before_postgres());
        }
        match (kind, options.url.clone()) {
            (Some(EngineKind::Postgres), Some(url)) => open_postgres(url, options).await,
            (Some(EngineKind::Redis), _) => Err(redis_before_postgres()),
            (Some(EngineKind::Sqlite), Some(url)) => {
                open_sqlite(url.folder().unwrap_or_else(|| options.data.clone()), options).await
            }
            _ => open_sqlite(options.data.clone(), options).await,
        }
    }

    /// The engine itself, for those who need no more than a [`Store`].
    pub fn shared(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::clone(store) as _,
            Self::Postgres(store) => Arc::clone(store) as _,
            Self::Redis(store) => Arc::clone(store) as _,
        }
    }

    /// The embedded engine, if it is that.
    pub const fn as_sqlite(&self) -> Option<&Arc<SqliteStore>> {
        match self {
            Self::Sqlite(store) => Some(store),
            Self::Postgres(_) | Self::Redis(_) => None,
        }
    }

    /// PostgreSQL, if it is that, also behind Redis.
    pub fn as_postgres(&self) -> Option<&Arc<PostgresStore>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store),
            Self::Redis(store) => Some(store.backing()),
        }
    }

    /// Redis before PostgreSQL, if it is that.
    pub const fn as_redis(&self) -> Option<&Arc<RedisStore<PostgresStore>>> {
        match self {
            Self::Redis(store) => Some(store),
            Self::Sqlite(_) | Self::Postgres(_) => None,
        }
    }

    /// Finishes what is queued and closes. Others may still hold the engine: it takes no writes then, and is
    /// gone with the last of them.
    pub async fn close(self) {
        let close = move || match self {
            // Dropped whole, it folds its log away.
            Self::Sqlite(store) => match Arc::try_unwrap(store) {
                Ok(store) => drop(store),
                Err(held) => held.close(),
            },
            // What was answered is there, and what is under way ends by itself.
            Self::Postgres(store) => drop(store),
            Self::Redis(store) => drop(store),
        };
        if let Err(error) = tokio::task::spawn_blocking(close).await {
            tracing::error!(%error, "the store did not close in order");
        }
    }

    fn engine(&self) -> &dyn Store {
        match self {
            Self::Sqlite(store) => &**store,
            Self::Postgres(store) => &**store,
            Self::Redis(store) => &**store,
        }
    }
}

fn redis_before_postgres() -> OpenError {
    OpenError::Options(
        "Redis keeps hot sessions only and stands before PostgreSQL: name PostgreSQL in `store.url` and Redis in \
         [store.redis]"
            .to_owned(),
    )
}

async fn open_postgres(url: StoreUrl, options: StoreOptions) -> Result<AnyStore, OpenError> {
    let StoreOptions { password, redis, connections, access, queue, timeout, epoch, .. } = options;
    let postgres = PostgresOptions { url, password, connections, queue, timeout, access, epoch };
    let postgres = Arc::new(PostgresStore::open(postgres).await?);
    let unmarked = |error: StoreError| OpenError::Away {
        server: postgres.shown().to_owned(),
        detail: error.to_string(),
    };
    match redis {
        Some(redis) => {
            let store = open_redis(redis, Arc::clone(&postgres), access).await?;
            if access == Access::Serve {
                store.stand_before().await.map_err(unmarked)?;
            }
            Ok(AnyStore::Redis(Arc::new(store)))
        }
        None => {
            if access == Access::Serve && redis::is_before(&*postgres).await.map_err(unmarked)? {
                return Err(OpenError::Options(format!(
                    "{}: the newest of its sessions is in Redis, and without that, clients would be taken for thieves. Name \
                     it in [store.redis]; or give it up: stop all authorities and run `reseal migrate --write-back`. If it is \
                     lost, name an empty one",
                    postgres.shown()
                )));
            }
            Ok(AnyStore::Postgres(postgres))
        }
    }
}

async fn open_redis(
    options: RedisOptions,
    postgres: Arc<PostgresStore>,
    access: Access,
) -> Result<RedisStore<PostgresStore>, OpenError> {
    match RedisStore::open(options.clone(), Arc::clone(&postgres)).await {
        // A session can be ended and a user disabled all the same.
        Err(error) if error.is_away() && access != Access::Serve => {
            tracing::warn!(%error, "going on without Redis");
            RedisStore::unseen(options, postgres)
        }
        opened => opened,
    }
}

async fn open_sqlite(folder: PathBuf, options: StoreOptions) -> Result<AnyStore, OpenError> {
    let StoreOptions { access, queue, timeout, epoch, .. } = options;
    let options = SqliteOptions { access, queue, timeout, epoch };
    let path = folder.clone();
    // Opening reads the disk and may bring tables up to date.
    let opening = tokio::task::spawn_blocking(move || SqliteStore::open(&folder, options));
    let opened = opening.await.map_err(|error| OpenError::Io { path, error: error.into() })?;
    Ok(AnyStore::Sqlite(Arc::new(opened?)))
}

/// One answer more in a box: for tools, which have the time.
#[async_trait]
impl Store for AnyStore {
    async fn session(&self, id: SessionId) -> Result<Option<Snapshot>, StoreError> {
        self.engine().session(id).await
    }

    async fn update_session(&self, update: SessionUpdate) -> Result<bool, StoreError> {
        self.engine().update_session(update).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.engine().commit(commit).await
    }

    async fn end_sessions(&self, end: EndSessions) -> Result<usize, StoreError> {
        self.engine().end_sessions(end).await
    }

    async fn sessions_of_user(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.engine().sessions_of_user(user, after, limit).await
    }

    async fn open_sessions(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.engine().open_sessions(after, limit).await
    }

    async fn timeline(&self, id: SessionId) -> Result<Vec<TimelineEntry>, StoreError> {
        self.engine().timeline(id).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.engine().user(id).await
    }

    async fn user_by_username(&self, username: &str) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.engine().user_by_username(username).await
    }

    async fn user_secrets(&self, id: UserId) -> Result<Option<(User, UserSecrets)>, StoreError> {
        self.engine().user_secrets(id).await
    }

    async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<User>, StoreError> {
        self.engine().users(after, limit).await
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        self.engine().client(id).await
    }

    async fn clients(&self, after: Option<&ClientId>, limit: usize) -> Result<Vec<Client>, StoreError> {
        self.engine().clients(after, limit).await
    }

    async fn challenge(&self, id: &SecretHash) -> Result<Option<Challenge>, StoreError> {
        self.engine().challenge(id).await
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.engine().keys().await
    }

    async fn events_after(&self, seq: u64, limit: usize) -> Result<Vec<LoggedEvent>, StoreError> {
        self.engine().events_after(seq, limit).await
    }

    async fn last_event(&self) -> Result<u64, StoreError> {
        self.engine().last_event().await
    }

    fn log_changed(&self) -> watch::Receiver<u64> {
        self.engine().log_changed()
    }

    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine().meta(name).await
    }

    async fn sweep(
        &self,
        now: Timestamp,
        sessions_before: Timestamp,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        self.engine().sweep(now, sessions_before, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.engine().check().await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.engine().time().await
    }

    fn cells(&self) -> Option<&dyn Cells> {
        self.engine().cells()
    }

    fn queued(&self) -> usize {
        self.engine().queued()
    }

    fn counters(&self) -> Vec<Counter> {
        self.engine().counters()
    }
}
