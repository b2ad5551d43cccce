//! The two stores of a move.

use super::MigrateArgs;
use crate::exit::misused;
use crate::folder::FolderArgs;
use crate::output::note;
use crate::words;
use anyhow::{Context as _, ensure};
use reseal_core::Timestamp;
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::keys::KeySet;
use reseal_server::master::{MasterKey, MasterKeyError};
use reseal_server::random::Random;
use reseal_server::start;
use reseal_store::postgres::PostgresStore;
use reseal_store::transfer::{Source, Target};
use reseal_store::{Access, AnyStore, EngineKind, Store as _, StoreOptions, StoreUrl};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// A store as the configuration would name it.
pub(super) struct Place {
    config: Config,
    /// Whether the newest of its sessions is in Redis, and is to be written back.
    write_back: bool,
}

const HOT_IN_REDIS: &str = "hot sessions of this store are in Redis, and a move sees no renewal there. Copy with \
    --stay-live while authorities run, if you like; then stop all of them and end the move with --write-back, which \
    first writes those sessions back (with [store.redis] in the configuration)";

/// An open one.
pub(super) struct Opened {
    store: AnyStore,
}

/// One end of the move.
pub(super) struct End(Box<dyn Both>);

/// Every engine can be both.
pub(super) trait Both: Source + Target {}
impl<T: Source + Target> Both for T {}

impl End {
    pub(super) fn as_ref(&self) -> &dyn Both {
        &*self.0
    }
}

impl Place {
    /// Where everything is.
    pub(super) fn source(args: &MigrateArgs) -> anyhow::Result<Self> {
        let configured = folder(args, args.store.as_ref()).load()?;
        let config = match &args.from {
            Some(url) => folder(args, Some(url)).load()?,
            None => configured.clone(),
        };
        let same = config.store.url.is_some() && config.store.place() == configured.store.place();
        let has_redis = configured.store.redis.is_some() && same;
        if has_redis && args.ends_here() && !args.write_back {
            return Err(misused(HOT_IN_REDIS));
        }
        if args.write_back && !has_redis {
            return Err(misused(
                "--write-back is for a configuration with [store.redis], of which this is the store",
            ));
        }
        Ok(Self { write_back: args.write_back, ..Self::of(config)? })
    }

    /// Where everything goes.
    pub(super) fn target(args: &MigrateArgs, url: &StoreUrl) -> anyhow::Result<Self> {
        Self::of(folder(args, Some(url)).load()?)
    }

    fn of(config: Config) -> anyhow::Result<Self> {
        if config.store.url.as_ref().is_some_and(|url| url.kind() == EngineKind::Redis) {
            return Err(misused(
                "Redis keeps hot sessions only: move to PostgreSQL, and name Redis in [store.redis]",
            ));
        }
        Ok(Self { config, write_back: false })
    }

    /// Its address, without passwords.
    pub(super) fn shown(&self) -> String {
        match &self.config.store.url {
            Some(url) => url.to_string(),
            None => format!("sqlite:{}", self.config.store.data.display()),
        }
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let canonical = |place: &Self| std::fs::canonicalize(&place.config.store.data).ok();
        match (&self.config.store.url, &other.config.store.url) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, None) => {
                self.config.store.data == other.config.store.data
                    || canonical(self).is_some_and(|path| Some(path) == canonical(other))
            }
            _ => false,
        }
    }

    /// Opens the store beside the server that may run on it. It must be there.
    pub(super) async fn open_source(&self, random: &Random) -> anyhow::Result<Opened> {
        // Opened for reading first, since a mistyped name should not leave a store behind.
        let looked_at = self.open(random, Access::ReadOnly).await?;
        looked_at.close().await;
        let store = self.open(random, Access::Tool).await?;
        if let Some(redis) = store.as_redis() {
            check_alone(redis.backing()).await?;
            let written = redis.write_back_all().await.context("hot sessions are not written back")?;
            note(format_args!("{} written back from Redis", words::count(written as u64, "session")));
        }
        Ok(Opened { store })
    }

    /// As [`Self::open_source`], of a move that is to end: with everything that authorities on it know.
    pub(super) async fn open_whole_source(&self, random: &Random) -> anyhow::Result<Opened> {
        let opened = self.open_source(random).await?;
        if reseal_store::redis::is_before(&opened.store).await? {
            return Err(misused(HOT_IN_REDIS));
        }
        Ok(opened)
    }

    /// Opens the store, alone on it where the engine can tell; makes it if it is not there.
    pub(super) async fn open_target(&self, random: &Random) -> anyhow::Result<Opened> {
        Ok(Opened { store: self.open(random, Access::Serve).await? })
    }

    async fn open(&self, random: &Random, access: Access) -> anyhow::Result<AnyStore> {
        let mut options = start::store_options(&self.config, random, access)?;
        // No epoch of its own: it gets the source's. No Redis: the store behind it is what is moved.
        let redis = options.redis.take().filter(|_| self.write_back && access != Access::ReadOnly);
        let options = StoreOptions { epoch: [0; 16], redis, ..options };
        Ok(AnyStore::open(options).await?)
    }

    /// What to do so that an authority on this store, by this configuration, has the master key that seals the
    /// keys of the source; nothing if it has.
    pub(super) async fn key_advice(&self, source: &Opened, from: &Self) -> Option<String> {
        let keys = source.store.keys().await.ok()?;
        if keys.is_empty() {
            return None;
        }
        let (ours, theirs) = (start::master_key_file(&self.config), start::master_key_file(&from.config));
        match MasterKey::load(&ours) {
            Ok(master) => match KeySet::read(&source.store, &master, now()).await {
                Ok(_) => None,
                Err(_) => Some(format!(
                    "the master key that an authority would use there ({}) does not open the keys. It needs the one \
                     that is used now",
                    place_of_key(&ours)
                )),
            },
            Err(MasterKeyError::Missing(_)) => {
                let now = if theirs != ours && theirs.exists() {
                    format!("copy {} to {}", theirs.display(), ours.display())
                } else {
                    format!("put the one that is used now into {}", ours.display())
                };
                Some(format!("it is in no store and was not copied: {now}, or set RESEAL_MASTER_KEY"))
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

/// How long connections may still show of an authority that was just stopped, and how often one looks.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is renewed after the writing back would be missing.
async fn check_alone(postgres: &PostgresStore) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let authorities = postgres.neighbours().await?.authorities;
        if authorities == 0 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < LEAVES_WITHIN,
            "authorities are connected to this database ({authorities} connections), and renewals of theirs would be \
             lost. Stop them all first"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn place_of_key(file: &std::path::Path) -> String {
    if std::env::var_os(reseal_server::master::VARIABLE).is_some() {
        return reseal_server::master::VARIABLE.to_owned();
    }
    file.display().to_string()
}

/// Only what is sealed is looked at; which key is due when does not matter.
fn now() -> Timestamp {
    Clock::system().now()
}

fn folder(args: &MigrateArgs, store: Option<&StoreUrl>) -> FolderArgs {
    let data: Option<PathBuf> = args.data.clone();
    FolderArgs { config: args.config.clone(), data, store: store.cloned() }
}

impl Opened {
    /// The end of the move that it is.
    pub(super) fn end(&self) -> anyhow::Result<End> {
        if let Some(store) = self.store.as_sqlite() {
            return Ok(End(Box::new(store.transfer()?)));
        }
        let store = self.store.as_postgres().context("this kind of store cannot be moved")?;
        Ok(End(Box::new(store.transfer())))
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }
}
