//! What goes on beside answering requests: certificates are taken over when they change, SIGHUP looks at
//! once, and the service manager hears that we live.

use super::notify::Notify;
use super::tls::{Expiry, Reloaded, Tls};
use super::told;
use crate::authority::App;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// The work; from the moment it is made, SIGHUP ends nothing any more.
#[derive(Debug)]
pub struct Upkeep {
    app: App,
    tls: Option<Arc<Tls>>,
    notify: Arc<Notify>,
    status: String,
    hangup: Signal,
    told: Told,
}

/// What was logged last, so that it is not logged every few seconds.
#[derive(Debug, Default)]
struct Told {
    fault: Option<String>,
    expiry: Option<Instant>,
}

/// Time between two warnings of the same certificate.
const WARN_EVERY: Duration = Duration::from_secs(3600);

impl Upkeep {
    /// Prepares it; `status` is what the service manager shows.
    pub fn new(
        app: &App,
        tls: Option<Arc<Tls>>,
        notify: Arc<Notify>,
        status: String,
    ) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let upkeep = Self { app: Arc::clone(app), tls, notify, status, hangup, told: Told::default() };
        if let Some(tls) = &upkeep.tls {
            upkeep.app.metrics.set_tls_expires_at(tls.expires_at());
            warn_of_certificate(tls, &upkeep.app);
        }
        Ok(upkeep)
    }

    /// Does it until `stopped`.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let notify = Arc::clone(&self.notify);
        // Not between looks: a file system that hangs must not make the service manager give us up.
        let live = async {
            let mut alive = every(notify.alive_every());
            loop {
                tick(&mut alive).await;
                notify.alive();
            }
        };
        tokio::select! {
            () = told(&mut stopped) => {}
            () = live => {}
            () = self.look_again_and_again() => {}
        }
    }

    async fn look_again_and_again(&mut self) {
        let look_every = self.tls.as_ref().and(self.app.config.server.tls.as_ref()).map(|c| c.reload_every.0);
        let mut look = every(look_every);
        loop {
            tokio::select! {
                () = tick(&mut look) => self.look(false).await,
                Some(()) = self.hangup.recv() => {
                    tracing::info!("SIGHUP: looking at the certificate");
                    self.notify.reloading();
                    self.look(true).await;
                    self.notify.ready(&self.status);
                }
            }
        }
    }

    /// Takes over a new certificate, if there is one.
    async fn look(&mut self, in_any_case: bool) {
        let Some(tls) = self.tls.clone() else { return };
        let reading = Arc::clone(&tls);
        let read = tokio::task::spawn_blocking(move || reading.reload(in_any_case)).await;
        let Ok(read) = read else { return };
        match read {
            Ok(Reloaded::Same) => self.told.fault = None,
            Ok(Reloaded::New) => {
                self.told = Told::default();
                self.app.metrics.set_tls_expires_at(tls.expires_at());
                tracing::info!(expires_at = tls.expires_at(), "a new certificate is in use");
            }
            Err(error) => {
                let fault = error.to_string();
                if in_any_case || self.told.fault.as_ref() != Some(&fault) {
                    tracing::warn!(%error, "the certificate that was in use stays");
                }
                self.told.fault = Some(fault);
            }
        }
        if self.told.expiry.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.told.expiry = Some(Instant::now());
            warn_of_certificate(&tls, &self.app);
        }
    }
}

/// Says in the log what is wrong with the certificate that is in use.
pub fn warn_of_certificate(tls: &Tls, app: &App) {
    let expires_at = tls.expires_at();
    match tls.expiry(app.clock.now().secs()) {
        Expiry::Far => {}
        Expiry::Soon(left) => {
            tracing::warn!(expires_at, days_left = left / 86_400, "the certificate expires soon; renew it");
        }
        Expiry::Over => {
            tracing::error!(expires_at, "the certificate has expired; clients refuse it. Renew it");
        }
        Expiry::Early => tracing::warn!("the certificate does not hold yet; is the clock right?"),
    }
    if let Some(host) = tls.refused_host(&app.issuer) {
        tracing::warn!(host, "the certificate is not for the issuer's host; clients refuse it");
    }
    if tls.key_is_exposed() {
        tracing::warn!("others than its owner and group may read server.tls.key; chmod it to 0640 or less");
    }
}

fn every(time: Option<Duration>) -> Option<Interval> {
    let time = time?;
    let mut ticks = interval_at(Instant::now() + time, time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(ticks)
}

/// Ready at the next tick; never if there is none.
async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}
