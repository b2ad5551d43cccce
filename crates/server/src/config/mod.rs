//! The configuration: one typed tree, unknown keys refused, checked whole at start.
//!
//! Every table is optional and every key has a default; `reseal init` writes a commented file.

mod gateway;
mod load;
mod server;
mod store;

pub use gateway::GatewayConfig;
pub use load::ConfigError;
pub use server::{ForwardedHeader, Listen, ListenOn, ServerConfig, SocketMode, TlsConfig, TrustedProxy};
pub use store::{RedisConfig, RollbackRule, StoreConfig};

use crate::limits::LoginLimits;
use crate::sms::SmsConfig;
use reseal_core::policy::{Policies, PolicyConfig, Ttl};
use reseal_core::{PolicyName, policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The configuration file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The authority's public URL without a slash at the end: `iss` of every token.
    pub issuer: Option<String>,
    /// The HTTP server.
    pub server: ServerConfig,
    /// Where things are kept.
    pub store: StoreConfig,
    /// Signing and ring keys.
    pub keys: KeysConfig,
    /// Users and what they may change themselves.
    pub users: UsersConfig,
    /// Limits on failed logins.
    pub login: LoginLimits,
    /// Text messages.
    pub sms: SmsConfig,
    /// Gateway mode: the hosted pages.
    pub gateway: GatewayConfig,
    /// The feed for verifiers.
    pub feed: FeedConfig,
    /// Traces.
    pub telemetry: TelemetryConfig,
    /// Policies by name; one here replaces the built-in of its name whole.
    pub policies: BTreeMap<PolicyName, PolicyConfig>,
}

/// Signing and ring keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// How long a key signs before the next takes over.
    pub rotate_every: Ttl,
    /// How long a key is published before it signs; also how long verifiers may cache the key set.
    pub publish_before: Ttl,
    /// File with the master key; default `master.key` in the data folder. The environment variable
    /// RESEAL_MASTER_KEY has precedence.
    pub master_key_file: Option<PathBuf>,
}

/// Users and what they may change themselves.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UsersConfig {
    /// Members of their record that users may write: name, email, attributes.NAME. Never roles or phone.
    pub user_writable: Vec<String>,
    /// Most sessions of a user that have not ended; the oldest make room. 0: no limit.
    pub max_sessions: usize,
    /// How old a login may be for changing phone, factor or password without the current password.
    pub recent_login: Ttl,
    /// Sorted list of breached passwords (lines of SHA-1 in hexadecimal, optionally followed by
    /// `:count`) that new passwords are checked against.
    pub breached_passwords_file: Option<PathBuf>,
    /// Threads that hash passwords; 0: one per core.
    pub hashing_threads: usize,
    /// Most logins that may wait for a hashing thread.
    pub hashing_queue: usize,
}

/// The feed for verifiers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedConfig {
    /// Most readers at once; more are answered 503 with Retry-After.
    pub max_readers: usize,
    /// Longest time that a reader's connection may take nothing while there is something for it; then it is
    /// cut, and may come again.
    pub write_timeout: Ttl,
}

/// Traces.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// OTLP over HTTP endpoint for traces, e.g. "http://127.0.0.1:4318"; absent: no traces.
    pub otlp_endpoint: Option<String>,
    /// Fraction of requests without an incoming `traceparent` that are traced.
    pub sample: Option<f64>,
}

const fn secs(n: u64) -> Ttl {
    Ttl(Duration::from_secs(n))
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self { rotate_every: secs(90 * 86_400), publish_before: secs(3600), master_key_file: None }
    }
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self { max_readers: 1000, write_timeout: secs(10) }
    }
}

impl Default for UsersConfig {
    fn default() -> Self {
        Self {
            user_writable: vec!["name".to_owned()],
            max_sessions: 0,
            recent_login: secs(300),
            breached_passwords_file: None,
            hashing_threads: 0,
            hashing_queue: 256,
        }
    }
}

impl Config {
    /// The policies in force: the built-in ones and those of the file.
    pub fn policies(&self) -> Result<Policies, policy::PolicyError> {
        Policies::new(&self.policies)
    }
}
