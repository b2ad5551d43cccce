//! From a configuration to an authority: everything is opened and checked before the first request.

use crate::authority::{App, Authority, ClientCache};
use crate::clock::Clock;
use crate::config::{Config, RedisConfig, StoreConfig};
use crate::dev::Dev;
use crate::gateway::Gateway;
use crate::keys::{Keys, KeysError};
use crate::knowledge::{Knowledge, is_shared};
use crate::limits::{self, Budget, LoginLimiter};
use crate::lives::{self, Lives};
use crate::master::{MasterKey, MasterKeyError};
use crate::password::{BreachedFileError, Hasher, PasswordPolicy};
use crate::random::Random;
use crate::sms::{self, TextMessages};
use reseal_core::PolicyName;
use reseal_core::keys::KeySchedule;
use reseal_core::policy::{Policies, PolicyError};
use reseal_store::redis::{RedisOptions, TlsRoots};
use reseal_store::transfer;
use reseal_store::{Access, AnyStore, Commit, OpenError, Secret, Store, StoreError, StoreOptions, Write};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zeroize::Zeroizing;

/// Why the authority does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No issuer.
    #[error(
        "issuer is not set: write `issuer = \"https://…\"` (the URL clients use) into the configuration file"
    )]
    NoIssuer,
    /// A policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A client needs a policy that is gone.
    #[error(
        "client {client} uses policy {policy}, which is not configured: add [policies.{policy}] or change the client"
    )]
    MissingPolicy {
        /// The client.
        client: String,
        /// The policy.
        policy: PolicyName,
    },
    /// The store belongs to the other mode.
    #[error(
        "{0}: this store was made by `serve --dev`, and its secrets lie in dev.json. Use another folder or database"
    )]
    DevelopmentStore(String),
    /// The store belongs to the other mode.
    #[error(
        "{0}: this store is not one of `serve --dev`; development mode touches no other. Use --data or --store"
    )]
    ProductionStore(String),
    /// A backup was put in place, and what must follow was not done.
    #[error(
        "{0}: a restore of this database was begun and not finished. Finish it: `reseal restore --after-database-restore`"
    )]
    UnfinishedRestore(String),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] crate::listen::BindError),
    /// Signals cannot be listened for.
    #[error("signals cannot be listened for: {0}")]
    Signal(std::io::Error),
    /// Development mode without an address.
    #[error("development mode needs an address, which its issuer is: use --listen 127.0.0.1:4000")]
    NoAddress,
    /// Development mode on an address that others reach.
    #[error(
        "{0} can be reached from other machines, and development mode gives its secrets to anyone who reaches it: \
         use --listen 127.0.0.1:{port}", port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The event log or the keys cannot be read.
    #[error(transparent)]
    Job(#[from] crate::jobs::JobError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of breached passwords cannot be used.
    #[error("users.breached_passwords_file: {0}")]
    BreachedPasswords(#[from] BreachedFileError),
    /// A place that the hosted pages may send to cannot be used.
    #[error("gateway.return_to: {0}")]
    ReturnTo(#[from] crate::gateway::InvalidTarget),
    /// The text message setting cannot be used.
    #[error("sms: {0}")]
    Sms(String),
    /// Something else in the data folder.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// The name of the value that marks a data folder as development's or not.
pub(crate) const MODE: &str = "mode";

/// Opens the store of the configuration.
pub async fn open_store(config: &Config, random: &Random, access: Access) -> Result<AnyStore, OpenError> {
    let store = AnyStore::open(store_options(config, random, access)?).await?;
    if access != Access::ReadOnly {
        // Neither half a copy nor what was moved elsewhere.
        transfer::check_may_serve(&store).await?;
    }
    Ok(store)
}

/// How long a server that starts waits for a database that is not there yet.
const STORE_WAIT: Duration = Duration::from_secs(60);

/// As [`open_store`], for serving, once it has failed with `away`: tries again for a minute at most.
pub async fn await_store(
    config: &Config,
    random: &Random,
    mut away: OpenError,
) -> Result<AnyStore, OpenError> {
    let opening = async {
        let mut pause = Duration::from_millis(250);
        loop {
            tracing::warn!(error = %away, "waiting for the store, for {} s at most", STORE_WAIT.as_secs());
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_secs(5));
            match open_store(config, random, Access::Serve).await {
                Err(error) if error.is_away() => away = error,
                opened => return opened,
            }
        }
    };
    let in_time = tokio::time::timeout(STORE_WAIT, opening).await;
    in_time.unwrap_or_else(|_| Err(away))
}

/// How the configuration wants its store to be opened.
pub fn store_options(config: &Config, random: &Random, access: Access) -> Result<StoreOptions, OpenError> {
    let store = &config.store;
    Ok(StoreOptions {
        data: store.data.clone(),
        url: store.url.clone(),
        password: store.url.as_ref().and(store.password_file.as_deref()).map(read_password).transpose()?,
        redis: store.redis.as_ref().map(|redis| redis_options(store, redis)).transpose()?,
        connections: store.connections,
        access,
        queue: store.queue,
        timeout: store.timeout.0,
        epoch: random.bytes(),
    })
}

fn redis_options(store: &StoreConfig, redis: &RedisConfig) -> Result<RedisOptions, OpenError> {
    Ok(RedisOptions {
        urls: redis.urls.clone(),
        cluster: redis.is_cluster(),
        username: redis.username.clone(),
        password: redis.password_file.as_deref().map(read_password).transpose()?,
        roots: redis.ca_file.as_deref().map_or(Ok(TlsRoots::System), read_certificates)?,
        connections: redis.connections,
        queue: store.queue,
        timeout: redis.timeout.0,
        patience: store.timeout.0,
        wait_replicas: u32::try_from(redis.wait_replicas()).unwrap_or(u32::MAX),
    })
}

/// No bundle of certificates is larger.
const MAX_CERTIFICATES: u64 = 4 << 20;

fn read_certificates(path: &Path) -> Result<TlsRoots, OpenError> {
    let failed = |error| OpenError::Io { path: path.to_owned(), error };
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_CERTIFICATES + 1).read_to_end(&mut pem).map_err(failed)?;
    if pem.len() as u64 > MAX_CERTIFICATES {
        let what = format!("larger than {MAX_CERTIFICATES} bytes");
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, what)));
    }
    Ok(TlsRoots::Pem(pem))
}

/// No password is longer.
const MAX_PASSWORD: u64 = 4096;

/// The password in a file, without the end of its line.
fn read_password(path: &Path) -> Result<Secret, OpenError> {
    let failed = |error| OpenError::Io { path: path.to_owned(), error };
    let mut text = Zeroizing::new(String::with_capacity(256));
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_PASSWORD + 1).read_to_string(&mut text).map_err(failed)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || text.len() as u64 > MAX_PASSWORD {
        let what = format!("a password has 1 to {MAX_PASSWORD} bytes");
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, what)));
    }
    Ok(Secret::from(password.to_owned()))
}

/// Opens an authority over the store. `dev` has been prepared by [`Dev::prepare`] in development mode.
pub async fn open(
    config: Config,
    store: Arc<dyn Store>,
    clock: Clock,
    dev: Option<Arc<Dev>>,
) -> Result<App, StartError> {
    let random = Random::new();
    let issuer: Arc<str> = config.issuer.clone().ok_or(StartError::NoIssuer)?.into();
    let policies = Arc::new(config.policies()?);
    let shared = is_shared(&*store);
    follow_clock(&clock, &*store).await?;
    check_mode(&*store, &config, dev.is_some()).await?;
    if crate::manage::restored::is_unfinished(&*store).await? {
        return Err(StartError::UnfinishedRestore(config.store.place()));
    }
    let used = check_clients(&*store, &policies).await?;
    let now = clock.now();
    let lives = Lives::new(shared);
    lives.begin(&*store, &policies, &used, now).await?;
    let longest_access_ttl = lives.longest(now).max(policies.longest_access_ttl());

    let master = master_key(&*store, &config, &random).await?;
    let schedule = key_schedule(&config, &policies, longest_access_ttl);
    let cells = limits::Shared::of(&store, master.naming());
    let keys = Keys::open(&*store, master, schedule, &random, now).await?;
    let texts: Arc<dyn TextMessages> = match &dev {
        // Whatever the file says: nothing that is only tried out reaches a phone.
        Some(dev) => Arc::clone(&dev.outbox) as _,
        None => sms::open(&config.sms).map_err(|e| StartError::Sms(e.to_string()))?,
    };
    let dev_client = dev.as_ref().and_then(|dev| dev.file.clients.cookie.client_id.parse().ok());
    let epoch = crate::feed::epoch(&*store).await?;
    let app = Arc::new(Authority {
        feed: crate::feed::Hub::new(epoch, config.feed.max_readers),
        gateway: Gateway::open(&config.gateway, dev_client.as_ref())?,
        issuer,
        hasher: Hasher::new(config.users.hashing_threads, config.users.hashing_queue),
        password_policy: PasswordPolicy::open(config.users.breached_passwords_file.as_deref())?,
        login_limits: match &cells {
            Some(cells) => LoginLimiter::shared(&config.login, cells.clone()),
            None => LoginLimiter::new(&config.login),
        },
        message_budget: match cells {
            Some(cells) => Budget::shared(MESSAGES_PER_DAY, DAY, cells),
            None => Budget::new(MESSAGES_PER_DAY, DAY),
        },
        policies,
        store,
        clock,
        random,
        keys,
        texts,
        clients: ClientCache::default(),
        lives,
        knowledge: Knowledge::new(),
        shared,
        draining: AtomicBool::new(false),
        dev,
        log_seq: AtomicU64::new(u64::MAX),
        keys_read_at: Mutex::new(None),
        metrics: crate::ops::Metrics::new(),
        readiness: crate::ops::health::Readiness::default(),
        config,
    });
    // In this order: what is logged from here on is looked at again, and what was before is read now.
    crate::jobs::read_log(&app).await?;
    crate::jobs::ensure_keys(&app).await?;
    app.look_for_client_changes().await?;
    crate::gateway::warn_if_unusable(&app).await?;
    Ok(app)
}

/// How long a server that starts waits for a store that is slow to tell the time.
const CLOCK_WAIT: Duration = Duration::from_secs(20);

/// As [`Clock::follow`], for the first time: before that there is no time to go by.
async fn follow_clock(clock: &Clock, store: &dyn Store) -> Result<(), StoreError> {
    let begun = tokio::time::Instant::now();
    loop {
        match clock.follow(store).await {
            Err(error) if begun.elapsed() < CLOCK_WAIT => {
                tracing::warn!(%error, "the store's clock cannot be read yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            done => return done,
        }
    }
}

/// The file that holds the master key, unless the environment does.
pub fn master_key_file(config: &Config) -> PathBuf {
    config.keys.master_key_file.clone().unwrap_or_else(|| config.store.data.join("master.key"))
}

/// In this time every process on the store has learned of a key that another one made, and publishes it.
const LEARNED_WITHIN: Duration = Duration::from_secs(60);

/// When keys change under this configuration.
pub fn key_schedule(config: &Config, policies: &Policies, longest_access_ttl: Duration) -> KeySchedule {
    KeySchedule {
        rotate_every: config.keys.rotate_every.0,
        publish_before: config.keys.publish_before.0 + LEARNED_WITHIN,
        longest_access_ttl,
        longest_max_ttl: policies.longest_max_ttl(),
    }
}

/// Makes the folder for secrets if it is missing, for its owner only.
pub(crate) fn make_folder(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|error| StartError::File { path: path.to_owned(), error })
}

/// The master key; a store without keys gets a new one if there is none.
async fn master_key(store: &dyn Store, config: &Config, random: &Random) -> Result<MasterKey, StartError> {
    let file = master_key_file(config);
    if !store.keys().await?.is_empty() {
        return Ok(MasterKey::load(&file)?);
    }
    match MasterKey::load(&file) {
        Err(MasterKeyError::Missing(_)) => {}
        loaded => return Ok(loaded?),
    }
    // With a database server, nothing else has made the data folder.
    make_folder(&config.store.data)?;
    Ok(MasterKey::load_or_create(&file, random)?)
}

/// Text messages that one user or one number gets in a day.
const MESSAGES_PER_DAY: usize = 20;
const DAY: Duration = Duration::from_secs(86_400);

/// A folder is development's or not, from its first start on. One that was set up by commands before its
/// first start is not.
pub(crate) async fn check_mode(store: &dyn Store, config: &Config, dev: bool) -> Result<(), StartError> {
    let wanted: &[u8] = if dev { b"dev" } else { b"production" };
    let other = || {
        let place = config.store.place();
        if dev { StartError::ProductionStore(place) } else { StartError::DevelopmentStore(place) }
    };
    match store.meta(MODE).await? {
        Some(mode) if mode == wanted => Ok(()),
        Some(_) => Err(other()),
        None if dev && !is_fresh(store).await? => Err(other()),
        None => put_meta(store, MODE, wanted.to_vec()).await,
    }
}

async fn is_fresh(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.users(None, 1).await?.is_empty()
        && store.clients(None, 1).await?.is_empty()
        && store.keys().await?.is_empty())
}

/// The policies that clients use, each of which must be configured.
async fn check_clients(store: &dyn Store, policies: &Policies) -> Result<BTreeSet<PolicyName>, StartError> {
    let (mut used, mut after) = (BTreeSet::new(), None);
    loop {
        let page = store.clients(after.as_ref(), 200).await?;
        let Some(last) = page.last() else { return Ok(used) };
        after = Some(last.id.clone());
        if let Some(client) = page.iter().find(|c| policies.find(&c.policy).is_none()) {
            let (client, policy) = (client.id.to_string(), client.policy.clone());
            return Err(StartError::MissingPolicy { client, policy });
        }
        used.extend(page.into_iter().map(|c| c.policy));
    }
}

/// The longest life under which a living access token may have been issued, as far as the store and this
/// configuration know: for commands.
pub async fn longest_access_ttl(store: &dyn Store, policies: &Policies) -> Result<Duration, StoreError> {
    Ok(lives::longest_access_ttl(store).await?.max(policies.longest_access_ttl()))
}

pub(crate) async fn put_meta(store: &dyn Store, name: &str, value: Vec<u8>) -> Result<(), StartError> {
    match store.commit(Commit::of([Write::PutMeta(name.to_owned(), value)])).await {
        Ok(()) => Ok(()),
        Err(reseal_store::CommitError::Store(error)) => Err(error.into()),
        Err(other) => Err(StoreError::Unavailable(other.to_string()).into()),
    }
}
