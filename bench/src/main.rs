//! Measures the authority: CPU time per operation, memory, size on disk, time to start.
//!
//! CPU time is user + system time of the whole server process, read from the kernel before and after a
//! closed loop of requests over loopback; the wall clock of a shared machine proves nothing.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person at the terminal")]

mod client;
mod fill;
mod koa;
mod migrating;
mod operations;
mod place;
mod server;
mod soak;
mod sweeping;
mod verifying;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use fill::Age;
use operations::Operation;
use place::{Engine, Place};
use server::{Server, System};
use std::path::{Path, PathBuf};

/// CPU time per operation of the authority, memory, size on disk and time to start.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// What to measure: refresh, renew, cookie, gateway, verify-own, login, memory, size, verify, feed, koa, sweep, migrate (default:
    /// all but login, verify, feed, koa, sweep and migrate). `verify` is a resource server's work, beside its peers, and needs no authority;
    /// `feed` is how long until many verifiers enforce a change, and whether any is missed; `koa` is a request of a
    /// Koa service, beside koa-jwt; `sweep` is what renewals take longer while `--sessions` outdated sessions are
    /// swept away, `migrate` is a move of `--sessions` sessions from SQLite to PostgreSQL under renewals (both on the first
    /// of `--connections`).
    #[arg(value_name = "WHAT")]
    what: Vec<String>,
    /// Connections at once, each with a session of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,512")]
    connections: Vec<usize>,
    /// Seconds per measurement (1 to 60).
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Sessions to fill the store with before `size` and before the other measurements.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=20_000_000))]
    sessions: u64,
    /// For `feed`: verifiers that follow it.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    verifiers: u16,
    /// For `feed`: changes in total.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    changes: u32,
    /// For `feed`: connections that are cut meanwhile.
    #[arg(long, default_value_t = 200)]
    disconnects: u16,
    /// For `feed`: times that the authority is killed (-9) and started again meanwhile.
    #[arg(long, default_value_t = 5)]
    restarts: u16,
    /// For `feed`: changes in a second, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// For `feed`: the seed of an earlier run, to cut and kill at the same moments.
    #[arg(long)]
    seed: Option<u64>,
    /// What the authority keeps everything in. The servers are started for it on this machine, with their
    /// usual care for the disk; their CPU time is shown beside the authority's.
    #[arg(long, value_enum, default_value_t = Engine::Sqlite)]
    store: Engine,
    /// The server's binary; built in release mode if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    if args.what.iter().any(|what| what == "verify") {
        println!("{}", System::read());
        verifying::run()?;
        args.what.retain(|what| what != "verify");
        if args.what.is_empty() {
            return Ok(());
        }
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let binary = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("{}", path.display()))?,
        None => server::build()?,
    };
    let folder = tempfile::tempdir()?;
    let place = Place::new(args.store, folder.path())?;
    let what: Vec<&str> = if args.what.is_empty() {
        vec!["memory", "size", "refresh", "renew", "cookie", "gateway", "verify-own"]
    } else {
        args.what.iter().map(String::as_str).collect()
    };
    println!("{}", System::read());

    if what.contains(&"memory") {
        memory(&binary, &place).await?;
    }
    if what.contains(&"sweep") {
        let (outdated, connections) = (args.sessions.max(1), args.connections.first().copied().unwrap_or(64));
        return sweeping::run(&binary, &place, outdated, connections).await;
    }
    if what.contains(&"migrate") {
        let (sessions, connections) = (args.sessions.max(1), args.connections.first().copied().unwrap_or(16));
        return migrating::run(&binary, (&place, folder.path()), sessions, connections).await;
    }
    if args.sessions > 0 {
        size(&binary, &place, args.sessions).await?;
    } else if what.contains(&"size") {
        println!("size: add --sessions N to fill the store and measure its size and the time to start");
    }
    if what.contains(&"feed") {
        feed(&args, binary.clone()).await?;
    }
    if what.contains(&"koa") {
        koa::run(&binary).await?;
    }
    for name in what.iter().filter(|w| !["memory", "size", "feed", "koa"].contains(w)) {
        let Some(operation) = Operation::named(name) else { bail!("unknown measurement {name}; see --help") };
        let server = Server::start(&binary, &place).await?;
        for connections in &args.connections {
            let figures = operation.measure(&server, *connections, args.seconds).await?;
            println!("{name:<10} {connections:>4} connections: {figures}");
        }
        println!("{name:<10} {:.1} MB resident afterwards", mb(server.resident_kib()?));
        server.stop().await?;
    }
    Ok(())
}

/// How fast, and how surely, verifiers learn of changes.
async fn feed(args: &Args, binary: PathBuf) -> Result<()> {
    let soak = soak::Soak {
        binary,
        verifiers: args.verifiers.into(),
        changes: usize::try_from(args.changes)?,
        disconnects: args.disconnects.into(),
        restarts: args.restarts.into(),
        rate: args.rate,
        seed: args.seed.unwrap_or_else(soak::any_seed),
    };
    let report = soak.run().await?;
    println!("{report}");
    if report.missed + report.accepted > 0 {
        bail!("changes were missed");
    }
    Ok(())
}

/// Resident memory when ready, and after 100 logins.
async fn memory(binary: &Path, place: &Place) -> Result<()> {
    let server = Server::start(binary, place).await?;
    let ready = server.resident_kib()?;
    operations::login_many(&server, 100).await?;
    println!("memory: {:.1} MB when ready, {:.1} MB after 100 logins", mb(ready), mb(server.resident_kib()?));
    server.stop().await
}

/// Bytes on disk per session, and the time from start to ready with them.
async fn size(binary: &Path, place: &Place, sessions: u64) -> Result<()> {
    Server::start(binary, place).await?.stop().await?;
    let empty = place.bytes()?;
    fill::fill(place, sessions, Age::Live).await?;
    place.settle();
    let full = place.bytes()?;
    println!(
        "size: {} sessions take {:.1} MB, {:.0} bytes each, indexes and interned texts included",
        sessions,
        (full - empty) as f64 / 1e6,
        (full - empty) as f64 / sessions as f64
    );
    let mut times = Vec::new();
    for _ in 0..5 {
        let server = Server::start(binary, place).await?;
        times.push(server.ready_after);
        server.stop().await?;
    }
    times.sort();
    println!(
        "start: ready after {} ms (median of {}, from {} to {})",
        times[times.len() / 2].as_millis(),
        times.len(),
        times[0].as_millis(),
        times[times.len() - 1].as_millis()
    );
    Ok(())
}

fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
