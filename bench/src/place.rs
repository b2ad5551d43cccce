//! Where the authority under measurement keeps everything: a folder, or servers that are started for it.

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use reseal_store::{Access, AnyStore, StoreOptions, StoreUrl};
use reseal_test_servers::{PgOptions, Postgres, RedisCluster, RedisOptions};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// SQLite in the data folder.
    Sqlite,
    /// One PostgreSQL server, which syncs.
    Postgres,
    /// A Redis cluster of 3 + 3 (append-only files) before PostgreSQL.
    Redis,
}

/// A data folder and the servers beside it, which end with this value.
pub(crate) struct Place {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// The configuration file.
    pub(crate) config: PathBuf,
    url: Option<String>,
    _redis: Option<RedisCluster>,
    postgres: Option<Postgres>,
}

impl Place {
    /// An empty place in the folder.
    pub(crate) fn new(engine: Engine, folder: &Path) -> Result<Self> {
        let postgres = (engine != Engine::Sqlite)
            .then(|| Postgres::start(PgOptions { fsync: true, ..PgOptions::default() }));
        let redis = (engine == Engine::Redis).then(|| {
            RedisCluster::start(3, 3, &RedisOptions { appendonly: true, ..RedisOptions::default() })
        });
        let mut text = String::new();
        if let Some(redis) = &redis {
            let urls: Vec<String> = redis.urls().iter().map(|url| format!("{url:?}")).collect();
            writeln!(text, "[store.redis]\nurls = [{}]", urls.join(", "))?;
        }
        let config = folder.join("reseal.toml");
        std::fs::write(&config, text)?;
        let url = postgres.as_ref().map(|postgres| {
            postgres.sql("postgres", "CREATE DATABASE bench");
            postgres.url("bench")
        });
        Ok(Self { data: folder.join("data"), config, url, _redis: redis, postgres })
    }

    /// The address of the store, if it is no folder.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The store itself, beside or instead of an authority. What lies in Redis is not in it.
    pub(crate) async fn open(&self) -> Result<AnyStore> {
        Ok(AnyStore::open(StoreOptions {
            data: self.data.clone(),
            url: self.url().map(str::parse::<StoreUrl>).transpose()?,
            password: None,
            connections: 4,
            access: Access::Tool,
            queue: 4096,
            timeout: Duration::from_secs(60),
            epoch: [0; 16],
            redis: None,
        })
        .await?)
    }

    /// Bytes that the store takes on disk.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let Some(postgres) = &self.postgres else { return crate::server::folder_bytes(&self.data) };
        postgres.sql("bench", "CHECKPOINT");
        let size = postgres.sql("bench", "SELECT pg_database_size('bench')");
        size.trim().parse().context("no size")
    }

    /// The database takes stock, as its autovacuum would after a while.
    pub(crate) fn settle(&self) {
        if let Some(postgres) = &self.postgres {
            postgres.sql("bench", "VACUUM ANALYZE");
            postgres.sql("bench", "CHECKPOINT");
        }
    }

    /// How many sessions there are, ended and outdated ones included.
    pub(crate) async fn sessions(&self) -> Result<u64> {
        if let Some(postgres) = &self.postgres {
            return postgres.sql("bench", "SELECT count(*) FROM sessions").trim().parse().context("no count");
        }
        let store = self.open().await?;
        let sqlite = store.as_sqlite().context("not SQLite")?.clone();
        let stats = tokio::task::spawn_blocking(move || sqlite.stats()).await??;
        store.close().await;
        Ok(stats.sessions)
    }
}

/// User and system time of everything that this process has started, but for `except`, with what has ended.
pub(crate) fn cpu_of_servers(except: u32) -> Result<Duration> {
    let mut processes: HashMap<u32, (u32, u64)> = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Ok(pid) = name.parse::<u32>() else { continue };
        // One that ends just now is in the figures of its parent.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // proc(5): after the name come the state and the parent; 14 to 17 are the times, in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let number = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
        let (Some(parent), Some(ticks)) = (number(1), (11..=14).map(number).sum::<Option<u64>>()) else {
            bail!("/proc/{pid}/stat does not read");
        };
        processes.insert(pid, (u32::try_from(parent)?, ticks));
    }
    let me = std::process::id();
    let is_ours = |mut pid: u32| {
        for _ in 0..64 {
            let Some((parent, _)) = processes.get(&pid) else { return false };
            if *parent == me {
                return pid != except;
            }
            pid = *parent;
        }
        false
    };
    let ticks: u64 = processes.iter().filter(|(pid, _)| is_ours(**pid)).map(|(_, (_, ticks))| ticks).sum();
    Ok(Duration::from_millis(ticks * 10))
}
