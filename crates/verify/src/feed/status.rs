//! How the feed is doing, for health, metrics and the log.

use super::connection::End;
use crate::freshness::SharedFreshness;
use crate::health::FeedHealth;
use reseal_core::event::EventKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Clocks that differ by more seconds than this make cold starts unsafe (see `freshness`).
pub(crate) const MAX_CLOCK_DIFFERENCE: i64 = 30;

#[derive(Debug)]
pub(crate) struct Status {
    issuer: String,
    inner: Mutex<Inner>,
    /// Whether a first connection has caught up or ended.
    began: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    connected: bool,
    was_connected: bool,
    problem: Option<String>,
    reconnects: u64,
    events: u64,
    starts: u64,
    clock_difference: Option<i64>,
    was_lost: Option<bool>,
    was_incomplete: bool,
}

impl Status {
    pub(super) fn new(issuer: String) -> Self {
        Self { issuer, inner: Mutex::default(), began: watch::Sender::new(false) }
    }

    /// Waits until a first connection has caught up, or did not come about.
    pub(super) async fn began(&self, patience: Duration) {
        let mut began = self.began.subscribe();
        let _ = timeout(patience, began.wait_for(|began| *began)).await;
    }

    pub(super) fn connected(&self) {
        let mut inner = self.lock();
        inner.connected = true;
        if inner.was_connected {
            inner.reconnects += 1;
            metrics::counter!("reseal_verify_feed_reconnects_total", "issuer" => self.issuer.clone())
                .increment(1);
        }
        inner.was_connected = true;
        drop(inner);
        metrics::gauge!("reseal_verify_feed_connected", "issuer" => self.issuer.clone()).set(1.0);
    }

    pub(super) fn caught_up(&self) {
        if self.lock().problem.take().is_some() {
            tracing::info!(issuer = %self.issuer, "the connection to the feed is back");
        }
        self.began.send_replace(true);
    }

    pub(super) fn started_over(&self) {
        self.lock().starts += 1;
        tracing::info!(issuer = %self.issuer, "the feed starts over");
    }

    pub(super) fn event(&self, kind: &EventKind) {
        self.lock().events += 1;
        metrics::counter!(
            "reseal_verify_feed_events_total", "issuer" => self.issuer.clone(), "type" => kind.type_name()
        )
        .increment(1);
    }

    pub(super) fn clock_difference(&self, seconds: i64) {
        let before = self.lock().clock_difference.replace(seconds);
        #[expect(clippy::cast_precision_loss, reason = "it is a measurement")]
        metrics::gauge!("reseal_verify_feed_lag_seconds", "issuer" => self.issuer.clone())
            .set(seconds as f64);
        let differs = |seconds: i64| seconds.saturating_abs() > MAX_CLOCK_DIFFERENCE;
        if differs(seconds) && !before.is_some_and(differs) {
            tracing::warn!(issuer = %self.issuer, seconds, "the authority's clock and this one differ");
        }
    }

    /// A connection ended, or did not come about.
    pub(super) fn ended(&self, end: &End) {
        let mut inner = self.lock();
        inner.connected = false;
        let problem = match end {
            End::Orderly => None,
            End::Broken(why) => Some(why.clone()),
            End::Unauthorized => Some("the authority refused the token of the feed".to_owned()),
            End::Forbidden(why) => Some((*why).to_owned()),
            End::StartOver(why) => {
                inner.starts += 1;
                Some(why.clone())
            }
        };
        // Once for each cause, however often it is tried.
        let is_news = problem.is_some() && inner.problem != problem;
        inner.problem = problem;
        if is_news {
            let why = inner.problem.as_deref().unwrap_or_default();
            match end {
                End::Forbidden(_) => tracing::error!(issuer = %self.issuer, why, "the feed cannot be read"),
                _ => tracing::warn!(issuer = %self.issuer, why, "the connection to the feed is gone"),
            }
        }
        drop(inner);
        self.began.send_replace(true);
        metrics::gauge!("reseal_verify_feed_connected", "issuer" => self.issuer.clone()).set(0.0);
    }

    /// Once a second.
    pub(super) fn observe(&self, freshness: &SharedFreshness) {
        let entries = freshness.entries();
        let maps = [
            ("sessions", entries.sessions),
            ("users", entries.users),
            ("clients", entries.clients),
            ("keys", entries.keys),
        ];
        for (map, entries) in maps {
            #[expect(clippy::cast_precision_loss, reason = "it is a measurement")]
            metrics::gauge!("reseal_verify_entries", "issuer" => self.issuer.clone(), "map" => map)
                .set(entries as f64);
        }
        let (lost, incomplete) = (freshness.feed_is_lost(), freshness.is_incomplete());
        metrics::gauge!("reseal_verify_feed_lost", "issuer" => self.issuer.clone())
            .set(f64::from(u8::from(lost)));
        let mut inner = self.lock();
        match (inner.was_lost.replace(lost), lost) {
            (Some(false), true) => tracing::error!(issuer = %self.issuer, "the feed is lost"),
            (None | Some(true), false) => tracing::info!(issuer = %self.issuer, "the feed is heard"),
            _ => {}
        }
        if incomplete && !inner.was_incomplete {
            tracing::error!(
                issuer = %self.issuer, entries = entries.total(),
                "more has changed than there is room for: the feed counts as lost"
            );
        }
        inner.was_incomplete = incomplete;
    }

    pub(super) fn health(&self, freshness: &SharedFreshness) -> FeedHealth {
        let inner = self.lock();
        FeedHealth {
            lost: freshness.feed_is_lost(),
            connected: inner.connected,
            caught_up: freshness.is_caught_up(),
            full: freshness.is_incomplete(),
            silent_for_seconds: freshness.silent_for().map(|silent| silent.as_secs()),
            clock_difference_seconds: inner.clock_difference,
            problem: inner.problem.clone(),
            reconnects: inner.reconnects,
            starts: inner.starts,
            events: inner.events,
            entries: freshness.entries(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
