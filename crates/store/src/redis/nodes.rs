//! The servers: which of them has which slot, and how to reach it.

use super::{RedisOptions, TlsRoots};
use crate::StoreError;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use redis::{RedisError, RedisResult, TlsCertificates, Value};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16384;
/// The least time between two looks at who has which slot.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Most servers that are asked at one look.
const ASK_AT_MOST: usize = 6;
/// Most servers that a cluster's answer may name.
const MAX_NODES: usize = 1024;

/// A server, as `host:port`.
pub(super) type Address = Arc<str>;

/// Where the slots are.
#[derive(Debug)]
pub(super) struct Map {
    /// The primaries.
    pub(super) nodes: Vec<Address>,
    /// Of each slot an index into `nodes`; empty for a single server.
    slots: Vec<u16>,
}

impl Map {
    /// The server of a slot.
    pub(super) fn node(&self, slot: u16) -> Option<&Address> {
        if self.slots.is_empty() {
            return self.nodes.first();
        }
        self.nodes.get(usize::from(*self.slots.get(usize::from(slot))?))
    }
}

/// All that is known of the servers; shared by all connections.
pub(super) struct Nodes {
    seeds: Vec<Address>,
    /// How to log in and whether to encrypt; the address is another one each time.
    template: ConnectionInfo,
    certificates: Option<TlsCertificates>,
    cluster: bool,
    timeout: Duration,
    map: RwLock<Arc<Map>>,
    /// When somebody looked last; held while looking.
    looked: tokio::sync::Mutex<Option<Instant>>,
    turn: AtomicUsize,
}

impl Nodes {
    /// From the options; connects to nobody.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, String> {
        let mut seeds = Vec::new();
        let mut template = None;
        for url in &options.urls {
            // Neither the URL nor the crate's error goes into the message: both may show a password.
            let info = url.reveal().into_connection_info().map_err(|_| {
                "a URL of Redis must be `redis://HOST[:PORT]` or `rediss://HOST[:PORT]`".to_owned()
            })?;
            let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = info.addr()
            else {
                return Err("Redis is reached over TCP: `redis://` or `rediss://`".to_owned());
            };
            if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                return Err("`#insecure` is not supported: name the certificate of the CA instead".to_owned());
            }
            seeds.push(address(host, *port));
            template.get_or_insert(info);
        }
        let mut template = template.ok_or("no URL of Redis is given")?;
        let mut login = template.redis_settings().clone().set_skip_set_lib_name();
        if let Some(username) = &options.username {
            login = login.set_username(username);
        }
        if let Some(password) = &options.password {
            login = login.set_password(password.reveal());
        }
        if options.cluster() && login.db() != 0 {
            return Err("a Redis cluster has only database 0".to_owned());
        }
        template = template.set_redis_settings(login);
        if matches!(template.addr(), ConnectionAddr::TcpTls { .. }) {
            // The crate takes the provider of the process; whoever came first may keep his.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let certificates = match &options.roots {
            TlsRoots::System => None,
            TlsRoots::Pem(pem) => Some(TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) }),
        };
        let map = Map { nodes: seeds.clone(), slots: Vec::new() };
        Ok(Self {
            seeds,
            template,
            certificates,
            cluster: options.cluster(),
            timeout: options.timeout,
            map: RwLock::new(Arc::new(map)),
            looked: tokio::sync::Mutex::new(None),
            turn: AtomicUsize::new(0),
        })
    }

    /// Whether keys are spread over slots.
    pub(super) const fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// Whether we have one to show.
    pub(super) fn has_password(&self) -> bool {
        self.template.redis_settings().password().is_some()
    }

    /// What is known of the slots.
    pub(super) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the servers who has which slot, unless that was done a moment ago.
    pub(super) async fn look(&self) -> RedisResult<()> {
        if !self.cluster {
            return Ok(());
        }
        let begun = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|at| at + LOOK_AGAIN > begun) {
            return Ok(());
        }
        let mut candidates = self.map().nodes.clone();
        candidates
            .extend(self.seeds.iter().filter(|seed| !candidates.contains(seed)).cloned().collect::<Vec<_>>());
        // Another one first each time: one that hangs, or is cut off and does not know, must not be asked for ever.
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % candidates.len().max(1);
        candidates.rotate_left(first);
        candidates.truncate(ASK_AT_MOST);
        let mut last = None;
        for node in candidates {
            match self.ask(&node).await {
                Ok(map) => {
                    *self.map.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
                    *looked = Some(Instant::now());
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        *looked = Some(Instant::now());
        Err(last.unwrap_or_else(|| (redis::ErrorKind::Io, "no server of the cluster is known").into()))
    }

    async fn ask(&self, node: &Address) -> RedisResult<Map> {
        let mut connection = self.connect(node).await?;
        let slots: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
        parse_slots(&slots, node).ok_or_else(|| {
            (redis::ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS leaves slots to nobody").into()
        })
    }

    /// A new connection to a server.
    pub(super) async fn connect(&self, node: &str) -> RedisResult<MultiplexedConnection> {
        let (host, port) = node
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .ok_or((redis::ErrorKind::InvalidClientConfig, "no address of a server"))?;
        let addr = match self.template.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        let info = self.template.clone().set_addr(addr);
        let client = match &self.certificates {
            Some(roots) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, roots.clone())?
            }
            _ => Client::open(info)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// What one server answers to one command, on a connection of its own.
    pub(super) async fn tell<T: redis::FromRedisValue>(&self, node: &str, command: &Cmd) -> RedisResult<T> {
        let mut connection = self.connect(node).await?;
        command.query_async(&mut connection).await
    }
}

/// What an error of Redis is to the caller. The crate's messages show no password and no key's value.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    if error.code() == Some("OOM") {
        return StoreError::Full("Redis has no memory left".to_owned());
    }
    StoreError::Unavailable(format!("Redis: {error}"))
}

/// `host:port`.
pub(super) fn address(host: &str, port: u16) -> Address {
    format!("{host}:{port}").into()
}

/// Reads an answer to CLUSTER SLOTS; `None` unless every slot has a primary.
fn parse_slots(value: &Value, asked: &Address) -> Option<Map> {
    let Value::Array(ranges) = value else { return None };
    let mut nodes: Vec<Address> = Vec::new();
    let mut slots = vec![u16::MAX; usize::from(SLOTS)];
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = range.as_slice() else {
            return None;
        };
        let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
        let host = match host {
            Value::BulkString(host) => std::str::from_utf8(host).ok()?,
            Value::SimpleString(host) => host,
            _ => "",
        };
        // A server that does not know its own address leaves it out.
        let host = if host.is_empty() || host == "?" { asked.rsplit_once(':')?.0 } else { host };
        let node = address(host, u16::try_from(*port).ok()?);
        let index = match nodes.iter().position(|known| *known == node) {
            Some(index) => index,
            None if nodes.len() < MAX_NODES => {
                nodes.push(node);
                nodes.len() - 1
            }
            None => return None,
        };
        let range = usize::try_from(*from).ok()?..=usize::try_from(*to).ok()?;
        slots.get_mut(range)?.fill(u16::try_from(index).ok()?);
    }
    (!slots.contains(&u16::MAX)).then_some(Map { nodes, slots })
}

/// The slot of a key's hash tag (CRC16-CCITT/XMODEM, as the cluster specification has it).
pub(super) fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b""), 0);
        assert_eq!(slot(b"foo"), 12182);
    }

    fn range(from: i64, to: i64, host: &str, port: i64) -> Value {
        let node = Value::Array(vec![Value::BulkString(host.into()), Value::Int(port)]);
        let replica = Value::Array(vec![Value::BulkString(b"replica".to_vec()), Value::Int(1)]);
        Value::Array(vec![Value::Int(from), Value::Int(to), node, replica])
    }

    #[test]
    fn every_slot_must_have_its_primary() {
        let asked = address("asked", 7000);
        let answer = Value::Array(vec![range(0, 99, "a", 7001), range(100, 16383, "", 7002)]);
        let map = parse_slots(&answer, &asked).unwrap();
        assert_eq!(
            (map.node(99).unwrap().as_ref(), map.node(100).unwrap().as_ref()),
            ("a:7001", "asked:7002")
        );
        for bad in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![range(0, 16382, "a", 1)]),
            Value::Array(vec![range(0, 16384, "a", 1)]),
            Value::Array(vec![range(0, 16383, "a", 70_000)]),
            Value::Array(vec![range(5, 2, "a", 1)]),
        ] {
            assert!(parse_slots(&bad, &asked).is_none(), "{bad:?}");
        }
    }
}
