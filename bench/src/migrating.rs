//! Moving a store under load: how fast it goes, how long writes are refused, and whether anybody is logged out.

use crate::client::Client;
use crate::fill::{self, Age};
use crate::operations::{login_body, text};
use crate::place::{Engine, Place};
use crate::server::{Server, now};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for the move.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long a refused client waits before it tries again.
const AGAIN: Duration = Duration::from_millis(20);

/// What the clients share.
#[derive(Default)]
struct Shared {
    /// Where the authority is; `None` while it is started anew.
    address: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
    /// Whether the authority that answers is on the new store.
    moved: AtomicBool,
    renewed: AtomicU64,
    /// The first refusal, and the first renewal after the move.
    refused: Mutex<(Option<Instant>, Option<Instant>)>,
}

/// Fills SQLite, renews on so many connections all the while, moves to PostgreSQL, and goes on there.
pub(crate) async fn run(
    binary: &Path,
    (from, folder): (&Place, &Path),
    sessions: u64,
    connections: usize,
) -> Result<()> {
    let folder = folder.join("to");
    std::fs::create_dir(&folder)?;
    let mut to = Place::new(Engine::Postgres, &folder)?;
    // What belongs to the authority itself stays where it is: dev.json, master.key.
    to.data.clone_from(&from.data);
    let url = to.url().context("no database")?.to_owned();
    Server::start(binary, from).await?.stop().await?;
    fill::fill(from, sessions, Age::Live).await?;
    let server = Server::start(binary, from).await?;
    let shared = Arc::new(Shared::default());
    *lock(&shared.address) = Some(server.address);
    let mut holders = Vec::new();
    for _ in 0..connections {
        let holder = Holder::start(&server).await?;
        holders.push(tokio::spawn(renew(holder, Arc::clone(&shared))));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (now(), shared.renewed.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let alone = rate(before, &shared);

    let begun = (now(), shared.renewed.load(Ordering::Relaxed));
    let (report, peak_kib) = migrate(binary, &from.data, &url).await?;
    let took = now().duration_since(begun.0);
    let meanwhile = rate(begun, &shared);
    *lock(&shared.address) = None;
    server.stop().await?;
    shared.moved.store(true, Ordering::Relaxed);
    let server = Server::start(binary, &to).await?;
    *lock(&shared.address) = Some(server.address);
    tokio::time::sleep(Duration::from_secs(5)).await;
    shared.stop.store(true, Ordering::Relaxed);
    for holder in holders {
        // Whoever was logged out says so here.
        holder.await??;
    }
    let number = |name: &str| report[name].as_u64().with_context(|| format!("no {name} in {report}"));
    let records = number("sessions")? + number("users")? + number("events")? + number("challenges")?;
    println!(
        "migrate: {} sessions, {} users from SQLite to PostgreSQL in {:.1} s: {:.0} records a second, {:.0} MB of memory",
        number("sessions")?,
        number("users")?,
        took.as_secs_f64(),
        records as f64 / took.as_secs_f64(),
        peak_kib as f64 * 1024.0 / 1e6
    );
    println!(
        "migrate: {connections} connections renewed {meanwhile:.0} times a second meanwhile, {alone:.0} before; {} changes \
         were copied again; nobody was logged out",
        number("changes")?
    );
    let (first, last) = *lock(&shared.refused);
    let window = first.zip(last).map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
    println!(
        "migrate: writes were refused for {:.2} s until the copy was complete, for {window:.2} s until an authority \
         on it answered",
        number("refused_writes_ms")? as f64 / 1000.0
    );
    server.stop().await
}

/// A session in the hands of a client.
struct Holder {
    client_id: String,
    refresh_token: String,
}

/// What must not happen.
#[derive(Debug)]
struct LoggedOut(String);

impl std::fmt::Display for LoggedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a client was logged out: {}", self.0)
    }
}

impl std::error::Error for LoggedOut {}

impl Holder {
    async fn start(server: &Server) -> Result<Self> {
        let client_id = text(&server.dev["clients"]["refresh"]["client_id"])?;
        let body = login_body(server, &client_id)?;
        let mut client = Client::connect(server.address).await?;
        let answer = client.post("/v1/session", &[("content-type", "application/json")], body).await?;
        Ok(Self { refresh_token: text(&answer.json(201)?["refresh_token"])?, client_id })
    }

    /// One renewal; `false`: refused for now.
    async fn renew(&mut self, client: &mut Client) -> Result<bool> {
        let Self { client_id, refresh_token } = self;
        let body = format!("grant_type=refresh_token&client_id={client_id}&refresh_token={refresh_token}");
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let answer = client.post("/oauth/token", &form, body).await?;
        match answer.status {
            200 => {
                self.refresh_token = text(&answer.json(200)?["refresh_token"])?;
                Ok(true)
            }
            503 => Ok(false),
            _ => Err(LoggedOut(String::from_utf8_lossy(&answer.body).into_owned()).into()),
        }
    }
}

/// Renews until told to stop; a refusal or no answer costs nothing but time.
async fn renew(mut holder: Holder, shared: Arc<Shared>) -> Result<()> {
    let mut client: Option<(SocketAddr, Client)> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let address = *lock(&shared.address);
        let Some(address) = address else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        if client.as_ref().is_none_or(|(at, _)| *at != address) {
            client = Client::connect(address).await.ok().map(|client| (address, client));
        }
        let Some((_, open)) = &mut client else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        match holder.renew(open).await {
            Ok(true) => {
                shared.renewed.fetch_add(1, Ordering::Relaxed);
                let mut refused = lock(&shared.refused);
                if shared.moved.load(Ordering::Relaxed) && refused.1.is_none() {
                    refused.1 = Some(now());
                }
            }
            Ok(false) => {
                lock(&shared.refused).0.get_or_insert_with(now);
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) if error.is::<LoggedOut>() => return Err(error),
            // The connection is gone with its server.
            Err(_) => client = None,
        }
    }
    Ok(())
}

/// Runs the command to its end; its report, and the most memory it had.
async fn migrate(binary: &Path, data: &Path, url: &str) -> Result<(Value, u64)> {
    let from = format!("sqlite:{}", data.display());
    let child = tokio::process::Command::new(binary)
        .args(["migrate", "--yes", "--json", "--from", &from])
        .env("RESEAL_MIGRATE_TO", url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let status = format!("/proc/{}/status", child.id().context("it ended at once")?);
    let mut output = std::pin::pin!(tokio::time::timeout(PATIENCE, child.wait_with_output()));
    let mut peak = 0;
    let output = loop {
        tokio::select! {
            output = &mut output => break output??,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
                peak = peak.max(kib.unwrap_or(0));
            }
        }
    };
    if !output.status.success() {
        bail!("the move failed");
    }
    Ok((serde_json::from_slice(&output.stdout)?, peak))
}

/// Renewals a second since then.
fn rate((at, count): (Instant, u64), shared: &Shared) -> f64 {
    let renewed = shared.renewed.load(Ordering::Relaxed) - count;
    renewed as f64 / now().duration_since(at).as_secs_f64()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
