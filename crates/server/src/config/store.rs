//! `[store]`: where everything is kept.

use super::secs;
use reseal_core::policy::Ttl;
use reseal_core::refresh::OnRollback;
use reseal_store::{EngineKind, StoreUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where things are kept: in a data folder (SQLite), or in PostgreSQL, which several nodes share.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The data folder: database, master key, lock. With `url` only the master key lies there.
    pub data: PathBuf,
    /// The address of PostgreSQL: `postgres://USER@HOST,HOST/DATABASE?sslmode=verify-full`. Without it the
    /// store is SQLite in `data`. A password belongs in `password_file` or in the environment variable
    /// RESEAL_STORE_URL.
    #[schemars(with = "Option<String>")]
    pub url: Option<StoreUrl>,
    /// File with the password for `url`.
    pub password_file: Option<PathBuf>,
    /// Most connections of this node to PostgreSQL.
    pub connections: usize,
    /// Most writes that may wait.
    pub queue: usize,
    /// Longest wait for an answer of the store.
    pub timeout: Ttl,
    /// How long ended sessions stay, with their reason and timeline.
    pub keep_ended: Ttl,
    /// Hot sessions in Redis, everything else in PostgreSQL at `url`.
    pub redis: Option<RedisConfig>,
}

/// Hot sessions in Redis, everything else in PostgreSQL.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// One server, or some nodes of a cluster: `redis://HOST:PORT`, `rediss://` for TLS.
    #[schemars(with = "Vec<String>")]
    pub urls: Vec<StoreUrl>,
    /// Whether it is a cluster; default: if there are several URLs.
    #[serde(default)]
    pub cluster: Option<bool>,
    /// User name (ACL).
    #[serde(default)]
    pub username: Option<String>,
    /// File with the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// File with the certificates (PEM) that servers of `rediss://` are checked by; default: the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Connections of this node to each server.
    #[serde(default = "four")]
    pub connections: usize,
    /// Longest wait for an answer of Redis.
    #[serde(default = "one_second")]
    pub timeout: Ttl,
    /// How many replicas must have a renewal before it is answered; default: 1 for a cluster, else 0.
    #[serde(default)]
    pub wait_replicas: Option<usize>,
    /// What a refresh token means whose number is ahead of the row: a failover of Redis lost writes
    /// ("advance"), or it is "theft".
    #[serde(default)]
    pub on_rollback: RollbackRule,
}

/// What a token ahead of its row means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RollbackRule {
    /// The store lost writes: go on from the token.
    #[default]
    Advance,
    /// Two parties hold tokens of the session: end it.
    Theft,
}

const fn four() -> usize {
    4
}

const fn one_second() -> Ttl {
    secs(1)
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            data: PathBuf::from("reseal-data"),
            url: None,
            password_file: None,
            connections: 8,
            queue: 4096,
            timeout: secs(5),
            keep_ended: secs(30 * 86_400),
            redis: None,
        }
    }
}

impl RedisConfig {
    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        self.cluster.unwrap_or(self.urls.len() > 1)
    }

    /// How many replicas must have a renewal before it is answered.
    pub fn wait_replicas(&self) -> usize {
        self.wait_replicas.unwrap_or_else(|| usize::from(self.is_cluster()))
    }
}

impl StoreConfig {
    /// Names another store. A data folder, as `sqlite:FOLDER`, is one of its own.
    pub fn set_url(&mut self, url: StoreUrl) {
        match url.folder() {
            Some(folder) => (self.data, self.url) = (folder, None),
            None => self.url = Some(url),
        }
    }

    /// Where the store is, in a word for messages; without passwords.
    pub fn place(&self) -> String {
        self.url.as_ref().map_or_else(|| self.data.display().to_string(), ToString::to_string)
    }

    /// What a refresh token ahead of its row means in this store (design §4).
    pub const fn on_rollback(&self) -> OnRollback {
        match &self.redis {
            Some(RedisConfig { on_rollback: RollbackRule::Advance, .. }) => OnRollback::Advance,
            _ => OnRollback::Theft,
        }
    }

    /// The key that cannot be used, and why. What belongs together (Redis and PostgreSQL) is looked at when the
    /// store opens, since the command line or the environment may name the other half.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.url.as_ref().is_some_and(|url| url.kind() == EngineKind::Redis) {
            return Err((
                "url",
                "Redis keeps hot sessions only: name PostgreSQL here and Redis in [store.redis]".into(),
            ));
        }
        if !(1..=1000).contains(&self.connections) {
            return Err(("connections", "must lie between 1 and 1000".into()));
        }
        let Some(redis) = &self.redis else { return Ok(()) };
        let fail = |reason: &str| Err(("redis", reason.to_owned()));
        if !(1..=100).contains(&redis.urls.len()) {
            return fail("urls must name 1 to 100 servers");
        }
        if redis.urls.iter().any(|url| url.kind() != EngineKind::Redis) {
            return fail("urls must begin with redis:// or rediss://");
        }
        let is_encrypted = |url: &StoreUrl| url.reveal().starts_with("rediss:");
        if redis.urls.iter().any(|url| is_encrypted(url) != redis.urls.first().is_some_and(is_encrypted)) {
            return fail("urls must be all redis:// or all rediss://");
        }
        if redis.cluster == Some(false) && redis.urls.len() > 1 {
            return fail("several urls are nodes of one cluster; without a cluster there is one url");
        }
        if !(1..=256).contains(&redis.connections) {
            return fail("connections must lie between 1 and 256");
        }
        if !(1..=60).contains(&redis.timeout.0.as_secs()) {
            return fail("timeout must lie between 1s and 60s");
        }
        if redis.wait_replicas() > 16 {
            return fail("wait_replicas must be at most 16");
        }
        Ok(())
    }
}
