//! The client of `GET /v1/feed` (design §7): connects, resumes, notices silence, and starts over when it
//! may have missed something.

mod authority;
mod backoff;
mod connection;
mod sse;
mod status;
#[cfg(test)]
mod tests;

use crate::builder::Credentials;
use crate::clock::Clock;
use crate::freshness::{HEARTBEAT_LIMIT, SharedFreshness};
use crate::health::FeedHealth;
use crate::random::chance;
use authority::Authority;
use backoff::Backoff;
use connection::{End, Reader};
use reqwest::Client;
pub(crate) use status::MAX_CLOCK_DIFFERENCE;
use status::Status;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// What the feed needs.
pub(crate) struct FeedConfig {
    /// The exact name of the issuer, a URL that the builder has found good.
    pub(crate) issuer: String,
    /// Follows no redirects and has a limit for connecting; its limit for whole requests, if any, is not
    /// applied to the stream.
    pub(crate) http: Client,
    pub(crate) credentials: Credentials,
    /// Whether the authority may be asked without TLS although it is not on this machine.
    pub(crate) http_allowed: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timing: Timing,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// For the head of an answer, and for a whole one other than the stream.
    pub(crate) answer: Duration,
    /// For the next message.
    pub(crate) silence: Duration,
    /// A connection that lasted so long did well.
    pub(crate) good: Duration,
    /// Least time between two new starts of our own.
    pub(crate) between_starts: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            silence: HEARTBEAT_LIMIT,
            good: Duration::from_secs(5),
            between_starts: Duration::from_secs(60),
        }
    }
}

struct Settings {
    clock: Arc<dyn Clock>,
    timing: Timing,
}

/// The running feed; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct FeedTask {
    task: JoinHandle<()>,
    status: Arc<Status>,
    freshness: Arc<SharedFreshness>,
}

impl FeedTask {
    /// How it is doing.
    pub(crate) fn health(&self) -> FeedHealth {
        self.status.health(&self.freshness)
    }

    /// Waits until it has caught up for the first time, or until the first try has failed.
    pub(crate) async fn began(&self, patience: Duration) {
        self.status.began(patience).await;
    }
}

impl Drop for FeedTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the feed from now on. Must be called within a Tokio runtime.
pub(crate) fn start(config: FeedConfig, freshness: Arc<SharedFreshness>) -> FeedTask {
    let status = Arc::new(Status::new(config.issuer.clone()));
    let (to_status, to_freshness) = (Arc::clone(&status), Arc::clone(&freshness));
    let task = tokio::spawn(async move {
        let authority = Authority::new(&config);
        let settings = Settings { clock: config.clock, timing: config.timing };
        let reader = Reader {
            authority,
            freshness: &to_freshness,
            status: &to_status,
            settings: &settings,
            position: None,
        };
        tokio::select! {
            () = follow(reader) => {}
            () = keep_house(&to_freshness, &to_status, &settings) => {}
        }
    });
    FeedTask { task, status, freshness }
}

/// One connection after the other, for ever.
async fn follow(mut reader: Reader<'_>) {
    let (freshness, timing) = (reader.freshness, reader.settings.timing);
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let end = tokio::select! {
            end = reader.connect() => end,
            () = freshness.interrupted() => End::Broken("it was interrupted".to_owned()),
            () = freshness.must_come_again() => End::StartOver("the maps cannot tell any more".to_owned()),
        };
        let did_well = freshness.is_caught_up() && began.elapsed() >= timing.good;
        freshness.disconnected();
        reader.status.ended(&end);
        if did_well {
            backoff.reset();
        }
        let delay = match &end {
            End::Orderly if did_well => Duration::ZERO,
            End::Forbidden(_) => Backoff::slow(chance()),
            _ => backoff.next(chance()),
        };
        match end {
            End::StartOver(_) => reader.start_over(),
            // The token was refused, or the client may have another scope by now.
            End::Unauthorized | End::Forbidden(_) => reader.authority.forget_token(),
            End::Orderly | End::Broken(_) => {}
        }
        sleep(delay).await;
    }
}

/// Once a second: drops what is dead, and sees whether the maps and the connection are good.
async fn keep_house(freshness: &SharedFreshness, status: &Status, settings: &Settings) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_start: Option<Instant> = None;
    loop {
        tick.tick().await;
        let now = settings.clock.now();
        freshness.prune(now);
        let due = last_start.is_none_or(|at| at.elapsed() >= settings.timing.between_starts);
        if freshness.must_start_over(now) {
            // What is missing is not known: by either cause the judgement may be too mild.
            freshness.lose();
            if due {
                last_start = Some(Instant::now());
                freshness.come_again();
            }
        }
        status.observe(freshness);
    }
}
