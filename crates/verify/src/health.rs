//! How a verifier is doing: for a service's own health page.

use crate::OnFeedLost;
use crate::freshness::Entries;
use crate::keys::KeysHealth;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use std::fmt;

/// How a verifier is doing. Shows as one line, serializes as JSON for `/health`; holds no secrets.
///
/// The same as metrics (crate `metrics`; those of checks and of the feed have the label `issuer`; install the
/// recorder before the verifier is built):
///
/// | metric | kind | labels | what |
/// |---|---|---|---|
/// | `reseal_verify_checks_total` | counter | `outcome` | checks: good, stale, refused, unavailable |
/// | `reseal_verify_cache_hits_total` | counter | | checks of a token that was verified before |
/// | `reseal_verify_feed_connected` | gauge | | 1 while there is a connection to the feed |
/// | `reseal_verify_feed_lost` | gauge | | 1 while the feed counts as lost |
/// | `reseal_verify_feed_reconnects_total` | counter | | connections after the first |
/// | `reseal_verify_feed_events_total` | counter | `type` | events that came |
/// | `reseal_verify_feed_lag_seconds` | gauge | | by how much the authority's clock is ahead, as of its last heartbeat |
/// | `reseal_verify_entries` | gauge | `map` | entries of the maps: sessions, users, clients, keys |
/// | `reseal_verify_key_fetches_total` | counter | `result` | fetches of the issuer's keys |
/// | `reseal_verify_introspections_total` | counter | `result` | questions to the authority |
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether tokens can be judged now: see [`Health::is_ready`].
    pub ready: bool,
    /// Whose tokens it verifies.
    pub issuer: String,
    /// The keys.
    #[serde(serialize_with = "keys_as_json")]
    pub keys: KeysHealth,
    /// The feed, if it follows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed: Option<FeedHealth>,
}

impl Health {
    pub(crate) fn new(issuer: String, keys: KeysHealth, feed: Option<(FeedHealth, OnFeedLost)>) -> Self {
        let refuses = |(feed, when_lost): &(FeedHealth, OnFeedLost)| {
            feed.lost && matches!(when_lost, OnFeedLost::Refuse)
        };
        let ready = keys.usable > 0 && !feed.as_ref().is_some_and(refuses);
        Self { ready, issuer, keys, feed: feed.map(|(feed, _)| feed) }
    }

    /// Whether tokens can be judged now: there are keys, and the feed is heard or the setting does without
    /// it. One that is not ready answers [`Unavailable`](crate::VerifyError::Unavailable).
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.ready
    }
}

fn keys_as_json<S: Serializer>(keys: &KeysHealth, to: S) -> Result<S::Ok, S::Error> {
    let mut members = to.serialize_struct("KeysHealth", 4)?;
    members.serialize_field("given", &keys.given)?;
    members.serialize_field("usable", &keys.usable)?;
    match keys.fetched_ago {
        Some(ago) => members.serialize_field("fetched_seconds_ago", &ago.as_secs())?,
        None => members.skip_field("fetched_seconds_ago")?,
    }
    members.serialize_field("failures", &keys.failures)?;
    members.end()
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} usable keys", if self.ready { "ready" } else { "not ready" }, self.keys.usable)?;
        if self.keys.failures > 0 {
            write!(f, " (fetching them failed {} times in a row)", self.keys.failures)?;
        }
        match &self.feed {
            Some(feed) => write!(f, "; feed {feed}"),
            None => f.write_str("; no feed"),
        }
    }
}

/// The connection to the feed, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FeedHealth {
    /// Whether changes may have been missed: it has not caught up yet, was silent for 15 s, or told more
    /// than there is room for. Then the setting decides.
    pub lost: bool,
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether it has caught up.
    pub caught_up: bool,
    /// Whether an event found no place.
    pub full: bool,
    /// How long ago something was heard that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_for_seconds: Option<u64>,
    /// By how much the authority's clock is ahead of this one. More than 30 s either way is not safe: the
    /// authority may drop events whose tokens are still good here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_difference_seconds: Option<i64>,
    /// What is wrong, or was before the connection of now. No secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Connections after the first.
    pub reconnects: u64,
    /// How often all live events had to come again.
    pub starts: u64,
    /// Events that came.
    pub events: u64,
    /// Entries of the maps.
    pub entries: Entries,
}

impl FeedHealth {
    /// Whether the clocks differ by more than is safe.
    #[must_use]
    pub fn clocks_differ(&self) -> bool {
        let limit = crate::feed::MAX_CLOCK_DIFFERENCE;
        self.clock_difference_seconds.is_some_and(|seconds| seconds.saturating_abs() > limit)
    }
}

impl fmt::Display for FeedHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.lost, self.connected, self.caught_up) {
            (true, _, _) if self.full => "lost: more has changed than there is room for",
            (true, false, _) => "lost: not connected",
            (true, true, false) => "lost: has not caught up",
            (true, true, true) => "lost: silent",
            (false, true, true) => "live",
            (false, true, false) => "catching up",
            (false, false, _) => "reconnecting",
        })?;
        write!(f, ", {} entries", self.entries.total())?;
        if let Some(problem) = &self.problem {
            write!(f, ", {problem}")?;
        }
        if let (true, Some(seconds)) = (self.clocks_differ(), self.clock_difference_seconds) {
            write!(f, ", the clocks differ by {seconds} s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(lost: bool) -> FeedHealth {
        FeedHealth {
            lost,
            connected: true,
            caught_up: !lost,
            full: false,
            silent_for_seconds: Some(3),
            clock_difference_seconds: Some(-31),
            problem: None,
            reconnects: 1,
            starts: 0,
            events: 9,
            entries: Entries { sessions: 2, users: 1, ..Entries::default() },
        }
    }

    fn keys(usable: usize) -> KeysHealth {
        KeysHealth { given: false, usable, fetched_ago: None, failures: 0 }
    }

    #[test]
    fn it_is_ready_when_tokens_can_be_judged() {
        let ready = |usable, feed| Health::new(String::new(), keys(usable), feed).is_ready();
        assert!(ready(1, None) && !ready(0, None));
        assert!(ready(1, Some((feed(false), OnFeedLost::Refuse))));
        assert!(!ready(1, Some((feed(true), OnFeedLost::Refuse))));
        assert!(ready(1, Some((feed(true), OnFeedLost::Introspect))));
        assert!(ready(1, Some((feed(true), OnFeedLost::Accept))));
    }

    #[test]
    fn it_reads_as_a_line_and_as_json() {
        let health =
            Health::new("https://a.example".to_owned(), keys(2), Some((feed(false), OnFeedLost::Accept)));
        let line = "ready: 2 usable keys; feed live, 3 entries, the clocks differ by -31 s";
        assert_eq!(health.to_string(), line);
        let json = serde_json::to_value(&health).unwrap();
        assert_eq!((&json["ready"], &json["feed"]["entries"]["sessions"]), (&true.into(), &2.into()));
        assert_eq!(json["feed"].get("problem"), None);
    }
}
