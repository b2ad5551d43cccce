//! Whether the servers will do: at the start, for readiness, and for `reseal doctor`.

use super::RedisOptions;
use super::nodes::{Address, Nodes};
use crate::{OpenError, StoreError};
use redis::{RedisError, cmd};
use reseal_core::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The oldest version that has all commands and options.
const OLDEST: u32 = 7;

/// What one server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeReport {
    /// `host:port`.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Time for an answer.
    pub latency: Duration,
    /// Its clock, when asked. Only for show: no deadline hangs on it.
    pub clock: Timestamp,
    /// Replicas that follow it.
    pub replicas: u32,
    /// Bytes of memory in use.
    pub used_memory: u64,
    /// Settings that lose sessions, each with what to do about it.
    pub advice: Vec<String>,
}

/// Looks whether Redis can be used at all. Of a cluster one server is enough: a node must be able to start while
/// another one is away.
pub(super) async fn examine(nodes: &Nodes, options: &RedisOptions) -> Result<(), OpenError> {
    let servers = || nodes.map().nodes.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    nodes.look().await.map_err(|error| open_error(&servers(), &error))?;
    let (mut is_there, mut away) = (false, None);
    for node in &nodes.map().nodes {
        let info: String = match nodes.tell(node, cmd("INFO").arg("server")).await {
            Ok(info) => info,
            Err(error) => match open_error(node, &error) {
                error if error.is_away() => {
                    away = Some(error);
                    continue;
                }
                error => return Err(error),
            },
        };
        is_there = true;
        let info = fields(&info);
        let version = info.get("redis_version").copied().unwrap_or_default();
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        if major < OLDEST {
            return Err(OpenError::OldServer {
                server: format!("Redis at {node}"),
                found: version.to_owned(),
                needed: "7",
            });
        }
        if !options.cluster() && info.get("redis_mode") == Some(&"cluster") {
            return Err(OpenError::Options(format!(
                "Redis at {node} is a server of a cluster: set `cluster = true` in [store.redis]"
            )));
        }
    }
    away.filter(|_| !is_there).map_or(Ok(()), Err)
}

/// Most servers that are asked whether they are there.
const ASK_AT_MOST: usize = 8;

/// Whether a primary answers. One of them is enough: when another dies, all nodes miss it, and if none of them
/// were ready the sessions of the others would be away, too.
pub(super) async fn ping(nodes: &Arc<Nodes>) -> Result<(), StoreError> {
    let looked = nodes.look().await;
    let mut asked = JoinSet::new();
    let map = nodes.map();
    for node in map.nodes.iter().take(ASK_AT_MOST) {
        let (nodes, node) = (Arc::clone(nodes), Arc::clone(node));
        asked.spawn(async move { nodes.tell::<String>(&node, &cmd("PING")).await });
    }
    let mut last = looked.err();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => last = Some(error),
            // The runtime ends.
            Err(_) => {}
        }
    }
    Err(last.map_or_else(
        || StoreError::Unavailable("no server of Redis is known".to_owned()),
        |error| super::nodes::store_error(&error),
    ))
}

/// What every primary says.
pub(super) async fn of(nodes: &Nodes) -> Result<Vec<NodeReport>, StoreError> {
    nodes.look().await.map_err(|error| super::nodes::store_error(&error))?;
    let mut reports = Vec::new();
    for node in &nodes.map().nodes {
        reports.push(of_one(nodes, node).await.map_err(|error| super::nodes::store_error(&error))?);
    }
    Ok(reports)
}

async fn of_one(nodes: &Nodes, node: &Address) -> redis::RedisResult<NodeReport> {
    let mut connection = nodes.connect(node).await?;
    let asked = Instant::now();
    let _: String = cmd("PING").query_async(&mut connection).await?;
    let latency = asked.elapsed();
    let (secs, micros): (i64, i64) = cmd("TIME").query_async(&mut connection).await?;
    let info: String = cmd("INFO").query_async(&mut connection).await?;
    let info = fields(&info);
    let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // CONFIG may be forbidden, as it is at many providers.
    let mut setting = async |name: &str| -> Option<String> {
        let answer: Result<HashMap<String, String>, _> =
            cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await;
        answer.ok()?.remove(name)
    };
    let settings = Settings {
        appendonly: setting("appendonly").await,
        appendfsync: setting("appendfsync").await,
        maxmemory_policy: setting("maxmemory-policy").await,
        maxmemory: setting("maxmemory").await.and_then(|text| text.parse().ok()),
        min_replicas_to_write: setting("min-replicas-to-write").await.and_then(|text| text.parse().ok()),
        full_coverage: match info.get("cluster_enabled") {
            Some(&"1") => setting("cluster-require-full-coverage").await,
            _ => None,
        },
        replicas: u32::try_from(number("connected_slaves")).unwrap_or(u32::MAX),
    };
    Ok(NodeReport {
        address: node.to_string(),
        version: info.get("redis_version").copied().unwrap_or_default().to_owned(),
        latency,
        clock: Timestamp::from_millis(secs * 1000 + micros / 1000),
        replicas: settings.replicas,
        used_memory: number("used_memory"),
        advice: settings.advice(nodes.has_password()),
    })
}

/// What can lose sessions.
struct Settings {
    appendonly: Option<String>,
    appendfsync: Option<String>,
    maxmemory_policy: Option<String>,
    maxmemory: Option<u64>,
    min_replicas_to_write: Option<u32>,
    full_coverage: Option<String>,
    replicas: u32,
}

impl Settings {
    fn advice(&self, has_password: bool) -> Vec<String> {
        let mut advice = Vec::new();
        if !has_password {
            advice.push(
                "it asks for no password: whoever reaches it can give himself any right. Set `requirepass`, or an ACL, \
                 and store.redis.password_file"
                    .to_owned(),
            );
        }
        if self.appendonly.as_deref() == Some("no") {
            advice.push(
                "appendonly is no: a restart loses all that changed since the last dump. Set `appendonly yes`".to_owned(),
            );
        } else if self.appendfsync.as_deref() == Some("no") {
            advice.push(
                "appendfsync is no: a power failure may lose minutes. Set `appendfsync everysec`".to_owned(),
            );
        }
        if let Some(policy) = self.maxmemory_policy.as_deref()
            && policy != "noeviction"
            && self.maxmemory.is_none_or(|bytes| bytes > 0)
        {
            advice.push(format!(
                "maxmemory-policy is {policy}: short of memory, Redis drops living sessions. Set `maxmemory-policy noeviction`"
            ));
        }
        if self.replicas == 0 {
            advice.push("it has no replica: when it dies, nobody takes over".to_owned());
        } else if self.min_replicas_to_write == Some(0) {
            advice.push(
                "min-replicas-to-write is 0: cut off from its replicas it goes on and takes renewals that the failover \
                 loses. Set `min-replicas-to-write 1`"
                    .to_owned(),
            );
        }
        if self.full_coverage.as_deref() == Some("yes") {
            advice.push(
                "cluster-require-full-coverage is yes: while one primary is away no session renews, instead of that \
                 one's share. Set `cluster-require-full-coverage no`"
                    .to_owned(),
            );
        }
        advice
    }
}

fn open_error(server: &str, error: &RedisError) -> OpenError {
    let server = format!("Redis at {server}");
    let detail = error.to_string();
    if matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
        || error.kind() == redis::ErrorKind::AuthenticationFailed
    {
        return OpenError::Login { server, detail };
    }
    if error.is_io_error() || error.is_connection_refusal() || error.is_timeout() || error.is_cluster_error()
    {
        return OpenError::Away { server, detail };
    }
    OpenError::Server { server, detail }
}

/// The lines `name:value` of INFO.
fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}
