//! A whole run: open, listen, say so, serve until told to stop, close.

use crate::clock::Clock;
use crate::config::{Config, ListenOn};
use crate::dev::{self, Dev};
use crate::listen::{Listeners, Notify, Upkeep};
use crate::random::Random;
use crate::start::{self, StartError};
use crate::{jobs, listen, router};
use reseal_store::Access;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// What to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration, with what the command line overrides.
    pub config: Config,
    /// Development mode.
    pub dev: bool,
}

/// An authority that listens.
#[derive(Debug)]
pub struct Started {
    /// Where, those over TCP first: `http://127.0.0.1:4000` (never port 0), `unix:/run/reseal/reseal.sock`.
    pub urls: Vec<String>,
    /// What to print on standard output. Its first line is `listening on` and the first URL.
    pub text: String,
}

/// Opens the authority, calls `started` once it listens, answers requests until `stop` is ready, and
/// finishes what it accepted. Open the log ([`crate::ops::log::Log`]) before, and close it after.
pub async fn serve(
    options: Options,
    stop: impl Future<Output = ()>,
    started: impl FnOnce(&Started),
) -> Result<(), StartError> {
    let Options { mut config, dev } = options;
    if dev {
        for place in config.server.listen.places() {
            if let ListenOn::Tcp(address) = place {
                check_loopback(*address)?;
            }
        }
    }
    if !dev && config.issuer.is_none() {
        return Err(StartError::NoIssuer);
    }
    let (random, clock) = (Random::new(), Clock::system());
    tokio::pin!(stop);
    let store = match start::open_store(&config, &random, Access::Serve).await {
        Err(error) if error.is_away() => tokio::select! {
            store = start::await_store(&config, &random, error) => store?,
            () = &mut stop => return Ok(()),
        },
        opened => opened?,
    };
    listen::raise_file_limit(config.server.max_connections);
    let listeners = Listeners::bind(&config.server).await?;
    let urls = listeners.urls();
    let mut text: String = urls.iter().map(|url| format!("listening on {url}\n")).collect();
    let dev = if dev {
        listeners.addresses().into_iter().try_for_each(check_loopback)?;
        let url = urls.first().filter(|url| !url.starts_with("unix:"));
        config.issuer = Some(url.ok_or(StartError::NoAddress)?.clone());
        let parts = dev::Parts { config: &config, store: &store, clock: &clock, random: &random };
        let dev = Dev::prepare(parts).await?;
        text = dev::start_up_text(&dev.file, &config.store.data);
        Some(dev)
    } else {
        None
    };
    let app = start::open(config, store.shared(), clock, dev).await?;
    let router = router::router(&app);
    let notify = Arc::new(Notify::from_env());
    let status = format!("listening on {}", urls.join(", "));
    let upkeep = Upkeep::new(&app, listeners.tls().cloned(), Arc::clone(&notify), status.clone());
    let upkeep = upkeep.map_err(StartError::Signal)?;
    tracing::info!(on = urls.join(" "), issuer = %app.issuer, version = env!("CARGO_PKG_VERSION"), "listening");
    started(&Started { urls, text });
    notify.ready(&status);

    let (stop_jobs, stopped) = watch::channel(false);
    let upkeep = tokio::spawn(upkeep.run(stopped.clone()));
    let jobs = tokio::spawn(jobs::run(Arc::clone(&app), stopped));
    let drained = async {
        stop.await;
        notify.stopping();
        app.drain().await;
    };
    listen::serve(Arc::clone(&app), router, listeners, drained).await;
    // A receiver that is gone has stopped already.
    let _ = stop_jobs.send(true);
    if let Err(error) = upkeep.await {
        tracing::error!(%error, "the upkeep did not stop in order");
    }
    if let Err(error) = jobs.await {
        tracing::error!(%error, "the jobs did not stop in order");
    }
    drop(app);
    // What was accepted is on disk before the process ends; a request that outlived its time may still hold it.
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Development mode gives its secrets to anyone who reaches it.
fn check_loopback(address: SocketAddr) -> Result<(), StartError> {
    if address.ip().is_loopback() { Ok(()) } else { Err(StartError::NotLoopback(address)) }
}

/// Writes the start-up text to standard output. A pipe that is full or closed stalls nothing: the text
/// waits in a thread of its own, or is lost.
pub fn print_start_up_text(text: String) {
    let write = move || {
        let mut out = std::io::stdout().lock();
        // Nobody reads it; that is no reason not to serve.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    if let Err(error) = std::thread::Builder::new().name("reseal-stdout".to_owned()).spawn(write) {
        tracing::warn!(%error, "the start-up text could not be printed");
    }
}

/// Ready at the first SIGTERM or SIGINT, for `stop`. A second one ends the process at once.
pub async fn stop_signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut either = async move || {
            tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            }
        };
        either().await;
        tokio::spawn(async move {
            let code = either().await;
            std::process::exit(code);
        });
        Ok(())
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
