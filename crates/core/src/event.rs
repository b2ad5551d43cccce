//! What verifiers must learn: the events of the feed, and why sessions end.

use crate::id::{ClientId, SessionId, UserId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a session ended. Told to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// Not renewed for longer than the policy's `idle_ttl`.
    IdleTimeout,
    /// As old as the policy's `max_ttl` allows.
    MaxLifetime,
    /// The user signed out.
    SignedOut,
    /// An administrator, another device of the user or the client ended it.
    Revoked,
    /// The password was changed elsewhere.
    PasswordChanged,
    /// A used refresh token came back: two parties hold it.
    ReuseDetected,
    /// The user was disabled or deleted.
    UserDisabled,
}

impl EndReason {
    /// All reasons, for stores and documentation.
    pub const ALL: [Self; 7] = [
        Self::IdleTimeout,
        Self::MaxLifetime,
        Self::SignedOut,
        Self::Revoked,
        Self::PasswordChanged,
        Self::ReuseDetected,
        Self::UserDisabled,
    ];

    /// The value on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::MaxLifetime => "max_lifetime",
            Self::SignedOut => "signed_out",
            Self::Revoked => "revoked",
            Self::PasswordChanged => "password_changed",
            Self::ReuseDetected => "reuse_detected",
            Self::UserDisabled => "user_disabled",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EndReason {
    type Err = crate::id::InvalidId;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|r| r.as_str() == s).ok_or(crate::id::InvalidId("end reason"))
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// One session ended. Ending all sessions of a user is one event each, or later logins would die
    /// with them.
    SessionEnded {
        /// The session.
        sid: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// A user's claims changed: tokens with a smaller `rev` are stale.
    ClaimsChanged {
        /// The user.
        sub: UserId,
        /// The least valid `rev`.
        rev: u64,
    },
    /// A client was disabled, deleted or its rights were narrowed: its tokens with `iat` before `before`
    /// may say more than it may have now.
    ClientChanged {
        /// The client.
        client_id: ClientId,
        /// Unix seconds: the second after the one of the change, since `iat` knows no parts of a second.
        before: i64,
    },
    /// Signing keys were withdrawn before their time.
    KeysChanged {
        /// The `kid`s that must no longer be trusted.
        withdrawn: Vec<String>,
    },
}

impl EventKind {
    /// The type's name on the wire and in the stores.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::SessionEnded { .. } => "session-ended",
            Self::ClaimsChanged { .. } => "claims-changed",
            Self::ClientChanged { .. } => "client-changed",
            Self::KeysChanged { .. } => "keys-changed",
        }
    }
}

/// An event as it is appended to the log, in the transaction of the change it tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When the last token it concerns is surely dead; after that the event leaves the feed.
    pub until: Timestamp,
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its number; grows in commit order.
    pub seq: u64,
    /// The event.
    pub event: Event,
}

/// Allowance for verifiers' leeway (60 s) and clocks, added to every event's life.
pub const EVENT_SLACK: Duration = Duration::from_secs(120);

/// When an event committed at `now` may leave the feed: once every token signed before it is dead.
/// `longest_access_ttl` is the high-water mark of lives under which a living token may have been issued.
pub fn event_until(now: Timestamp, longest_access_ttl: Duration) -> Timestamp {
    now + longest_access_ttl + EVENT_SLACK
}

/// Longest `max-age` of the published key set.
pub const KEY_SET_LIFE: Duration = Duration::from_secs(300);

/// When the event of a withdrawal at `now` may leave the feed, which other events do at `event_until`: whoever
/// has a leaked key signs tokens of any life, so not while a verifier that starts may be shown a kept key set.
pub fn withdrawal_until(now: Timestamp, event_until: Timestamp) -> Timestamp {
    event_until.max(now + KEY_SET_LIFE + EVENT_SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_from_its_name() {
        for reason in EndReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
        assert!("expired".parse::<EndReason>().is_err());
    }

    #[test]
    fn an_event_stays_until_the_last_token_it_concerns_is_dead() {
        let committed = Timestamp::from_secs(1000);
        assert_eq!(event_until(committed, Duration::from_secs(300)), Timestamp::from_secs(1420));
    }

    #[test]
    fn a_withdrawal_stays_until_no_kept_key_set_has_the_key() {
        let at = |ttl| {
            let now = Timestamp::from_secs(1000);
            withdrawal_until(now, event_until(now, Duration::from_secs(ttl))).secs()
        };
        assert_eq!((at(1), at(300), at(900)), (1420, 1420, 2020));
    }
}
