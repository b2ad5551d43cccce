//! The store that a command works on, by its configuration.

use crate::output::note;
use anyhow::{Context as _, ensure};
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use reseal_core::keys::KeySchedule;
use reseal_core::policy::Policies;
use reseal_core::{Client, Timestamp, User, UserId, event};
use reseal_server::clock::Clock;
use reseal_server::config::Config;
use reseal_server::keys::{self, KeySet, Keys};
use reseal_server::manage::Manage;
use reseal_server::master::MasterKey;
use reseal_server::password::{Hasher, Password, PasswordPolicy};
use reseal_server::random::Random;
use reseal_server::{dev, start};
use reseal_store::{Access, AnyStore, OpenError, Store as _, StoreUrl};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which store.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FolderArgs {
    /// Configuration file; without it reseal.toml in the working folder, if there is one
    #[arg(long, value_name = "FILE", env = "RESEAL_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder; beats the configuration file's `store.data`
    #[arg(long, value_name = "DIR", env = "RESEAL_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Address of the store (postgres://USER@HOST/DATABASE, sqlite:DIR); beats `store.url`. Give one with a
    /// password in the environment only: others can see a command line
    #[arg(long, value_name = "URL", value_parser = StoreUrlParser, env = "RESEAL_STORE_URL", hide_env_values = true)]
    pub(crate) store: Option<StoreUrl>,
}

/// Reads the address of a store from the command line or the environment. What cannot be read is not quoted, as clap
/// would: it may hold a password.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreUrlParser;

impl TypedValueParser for StoreUrlParser {
    type Value = StoreUrl;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<StoreUrl, clap::Error> {
        let why = match value.to_str().map(str::parse::<StoreUrl>) {
            Some(Ok(url)) => return Ok(url),
            Some(Err(error)) => error.to_string(),
            None => "it is not UTF-8".to_owned(),
        };
        let name = arg.map(ToString::to_string).unwrap_or_default();
        let or_variable = arg.and_then(clap::Arg::get_env).map(|name| format!(" (or {})", name.display()));
        let told = format!("invalid value for '{name}'{}: {why}\n", or_variable.unwrap_or_default());
        Err(clap::Error::raw(ErrorKind::ValueValidation, told).with_cmd(command))
    }
}

/// The file that is read when none is named.
const DEFAULT_CONFIG: &str = "reseal.toml";

impl FolderArgs {
    /// The file to read, if any.
    pub(crate) fn config_file(&self) -> Option<&Path> {
        let default = Path::new(DEFAULT_CONFIG);
        self.config.as_deref().or_else(|| default.exists().then_some(default))
    }

    /// The configuration with the store that the command line names.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        let mut config = match self.config_file() {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        self.apply(&mut config);
        Ok(config)
    }

    /// What the command line names beats the file.
    pub(crate) fn apply(&self, config: &mut Config) {
        if let Some(data) = &self.data {
            config.store.data.clone_from(data);
        }
        if let Some(url) = &self.store {
            // Without a server of its own, a folder is SQLite's, whatever the file says.
            config.store.url = None;
            config.store.set_url(url.clone());
        }
    }

    /// Opens the folder for reading.
    pub(crate) async fn open_read_only(&self) -> anyhow::Result<Folder> {
        self.open(Access::ReadOnly).await
    }

    /// Opens the folder for changes, which must be there already.
    pub(crate) async fn open_existing(&self) -> anyhow::Result<Folder> {
        self.check_is_there().await?;
        self.open(Access::Tool).await
    }

    /// Opens the folder for changes; makes it if it is not there, so that users and clients can be set
    /// up before the first start.
    pub(crate) async fn open_or_create(&self) -> anyhow::Result<Folder> {
        if self.check_is_there().await.is_err() {
            let store = self.load()?.store;
            let what = if store.url.is_some() { "setting up the database" } else { "making the data folder" };
            note(format_args!("{what} {}", store.place()));
        }
        self.open(Access::Tool).await
    }

    /// Opens the store for changes while no server runs on it.
    pub(crate) async fn open_alone(&self) -> anyhow::Result<Folder> {
        self.check_is_there().await?;
        // A folder has a lock; of a database server the connections are counted.
        let is_server = self.load()?.store.url.is_some();
        let folder = self.open(if is_server { Access::Tool } else { Access::Serve }).await?;
        if let Some(postgres) = folder.store.as_postgres() {
            let authorities = postgres.neighbours().await?.authorities;
            ensure!(
                authorities == 0,
                "{}: authorities are connected to this database ({authorities} connections). Stop them all first",
                postgres.shown()
            );
        }
        Ok(folder)
    }

    /// A command that changes something opens, and would make, whatever is named; a mistyped name should
    /// not leave a folder behind.
    async fn check_is_there(&self) -> anyhow::Result<()> {
        let config = self.load()?;
        match start::open_store(&config, &Random::new(), Access::ReadOnly).await {
            Err(error @ OpenError::Missing(_)) => Err(anyhow::Error::new(error)
                .context("no data folder (name it with --data DIR or --config FILE)")),
            Err(error @ OpenError::Empty(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn open(&self, access: Access) -> anyhow::Result<Folder> {
        Folder::open(self.load()?, access).await
    }
}

/// An open store.
pub(crate) struct Folder {
    pub(crate) config: Config,
    pub(crate) store: AnyStore,
    pub(crate) policies: Policies,
    pub(crate) random: Random,
    clock: Clock,
    longest_access_ttl: Duration,
}

impl Folder {
    /// Opens the store of the configuration.
    pub(crate) async fn open(config: Config, access: Access) -> anyhow::Result<Self> {
        let policies = config.policies()?;
        let random = Random::new();
        let store = start::open_store(&config, &random, access).await?;
        let longest_access_ttl = start::longest_access_ttl(&store, &policies).await?;
        let clock = Clock::system();
        // What commands write must fit what the authorities on the store go by.
        clock.follow(&store).await?;
        // A folder of development mode has a time of its own.
        if let Some(offset) = dev::clock_offset(&store).await? {
            clock.advance(offset);
        }
        Ok(Self { config, store, policies, random, clock, longest_access_ttl })
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The operations that the HTTP API offers too, at this instant.
    pub(crate) fn manage(&self) -> Manage<'_> {
        let now = self.now();
        Manage {
            store: &self.store,
            random: &self.random,
            now,
            event_until: event::event_until(now, self.longest_access_ttl),
            policies: &self.policies,
        }
    }

    /// The user of that id or name.
    pub(crate) async fn user(&self, text: &str) -> anyhow::Result<User> {
        if let Ok(id) = text.parse::<UserId>()
            && let Some(user) = self.store.user(id).await?
        {
            return Ok(user);
        }
        let found = self.store.user_by_username(text).await?;
        found
            .map(|(user, _)| user)
            .with_context(|| format!("there is no user {text:?}; `reseal users list` shows all"))
    }

    /// The hash of a new password for `username`, if it is one that users may choose.
    pub(crate) async fn hash_password(&self, text: &str, username: &str) -> anyhow::Result<String> {
        let password = Password::new(text.to_owned())?;
        let policy = PasswordPolicy::open(self.config.users.breached_passwords_file.as_deref())?;
        policy.check_blocking(&password, username)?;
        let hash = Hasher::new(1, 1).hash(password).await?;
        Ok(hash.to_string())
    }

    /// All keys, for looking only.
    pub(crate) async fn key_set(&self, now: Timestamp) -> anyhow::Result<KeySet> {
        let master = self.master_key().await?;
        Ok(KeySet::read(&self.store, &master, now).await?)
    }

    /// The keys, for changing them.
    pub(crate) async fn keys(&self, now: Timestamp) -> anyhow::Result<Keys> {
        let master = self.master_key().await?;
        Ok(Keys::open(&self.store, master, self.key_schedule(), &self.random, now).await?)
    }

    /// The master key that opens the keys, once there are any.
    async fn master_key(&self) -> anyhow::Result<MasterKey> {
        ensure!(
            !self.store.keys().await?.is_empty(),
            "there are no keys yet; the first start of `reseal serve` makes them"
        );
        Ok(MasterKey::load(&start::master_key_file(&self.config))?)
    }

    /// The clients whose policy is not configured, with its name: no authority starts with them.
    pub(crate) async fn clients_without_policy(&self) -> anyhow::Result<Vec<Client>> {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = self.store.clients(after.as_ref(), 200).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.id.clone());
            found.extend(page.into_iter().filter(|client| self.policies.find(&client.policy).is_none()));
        }
    }

    /// Throws all keys away and makes new ones, under a master key that is there or is made.
    pub(crate) async fn reset_keys(&self) -> anyhow::Result<()> {
        let master = MasterKey::load_or_create(&start::master_key_file(&self.config), &self.random)?;
        let Manage { now, event_until, .. } = self.manage();
        let at = (now, event_until);
        Ok(keys::reset(&self.store, (&master, &self.random), &self.key_schedule(), at).await?)
    }

    fn key_schedule(&self) -> KeySchedule {
        start::key_schedule(&self.config, &self.policies, self.longest_access_ttl)
    }
}
