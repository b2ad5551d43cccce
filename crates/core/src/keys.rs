//! The life of keys: published before first use, then signing, then kept until the last token signed
//! with them is dead (design §6). When each step is due is decided here.

use crate::id::KeyId;
use crate::time::Timestamp;
use std::time::Duration;

/// What a key is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUse {
    /// Signs access tokens, under its `kid`, with this JWS algorithm.
    Signing {
        /// `ES256`, `EdDSA` or `RS256`.
        algorithm: String,
        /// RFC 7638 thumbprint.
        kid: String,
    },
    /// Makes and authenticates refresh tokens, cookies and one-time codes.
    Ring {
        /// Its number.
        id: KeyId,
    },
}

/// A key as it is stored. The secret is sealed under the master key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// What it is for.
    pub key_use: KeyUse,
    /// When it was made and published.
    pub created_at: Timestamp,
    /// From when it signs.
    pub active_from: Timestamp,
    /// From when another signs in its stead, if one does.
    pub retired_at: Option<Timestamp>,
    /// From when it is no longer published, though still kept to verify the authority's own old tokens.
    pub unpublished_at: Option<Timestamp>,
    /// From when nothing trusts it, because it may have leaked.
    pub withdrawn_at: Option<Timestamp>,
    /// The sealed secret.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRecord")
            .field("key_use", &self.key_use)
            .field("created_at", &self.created_at)
            .field("active_from", &self.active_from)
            .field("retired_at", &self.retired_at)
            .finish_non_exhaustive()
    }
}

/// When keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySchedule {
    /// How long a key signs.
    pub rotate_every: Duration,
    /// How long a key is published before it signs: as long as verifiers may cache the key set.
    pub publish_before: Duration,
    /// How long a token signed at the last moment may live.
    pub longest_access_ttl: Duration,
    /// How long a session may live, hence its credentials' key and the authority's old tokens.
    pub longest_max_ttl: Duration,
}

/// What state a key is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, not yet signing.
    Next,
    /// Signs.
    Active,
    /// Signs no more; verifies what it signed.
    Retired,
    /// Not published any more; kept for the authority's own use.
    Unpublished,
    /// Not trusted.
    Withdrawn,
}

impl KeyState {
    /// The name shown to people and scripts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Unpublished => "unpublished",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl KeyRecord {
    /// The state at `now`.
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.withdrawn_at.is_some_and(|t| t <= now) {
            KeyState::Withdrawn
        } else if self.unpublished_at.is_some_and(|t| t <= now) {
            KeyState::Unpublished
        } else if self.retired_at.is_some_and(|t| t <= now) {
            KeyState::Retired
        } else if self.active_from <= now {
            KeyState::Active
        } else {
            KeyState::Next
        }
    }

    /// Whether verifiers get it.
    pub fn is_published(&self, now: Timestamp) -> bool {
        matches!(self.state(now), KeyState::Next | KeyState::Active | KeyState::Retired)
    }

    /// When the record may be deleted: no token or credential made with it can be alive.
    pub fn forget_at(&self, schedule: &KeySchedule) -> Option<Timestamp> {
        self.retired_at.map(|t| t + schedule.longest_max_ttl.max(schedule.longest_access_ttl) + SLACK)
    }
}

/// Allowance for clocks and leeway.
const SLACK: Duration = Duration::from_secs(120);

/// One step of the rotation that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// Make a key and publish it; it signs from `active_from` on, when the one before retires.
    Create {
        /// From when it signs.
        active_from: Timestamp,
    },
    /// Delete the record.
    Forget(KeyUse),
}

/// The key that makes new tokens or sessions at `now`, of those for one purpose and algorithm: the one
/// that became active last.
pub fn active_key(keys: &[KeyRecord], now: Timestamp) -> Option<&KeyRecord> {
    keys.iter().filter(|k| k.state(now) == KeyState::Active).max_by_key(|k| (k.active_from, k.created_at))
}

/// What is due at `now` for the keys of one purpose and algorithm. `now_wanted` asks for a rotation out
/// of schedule (`reseal keys rotate`), which still publishes before it signs.
pub fn plan(keys: &[KeyRecord], schedule: &KeySchedule, now: Timestamp, now_wanted: bool) -> Vec<KeyStep> {
    let mut steps: Vec<KeyStep> = keys
        .iter()
        .filter(|k| k.forget_at(schedule).is_some_and(|t| t <= now))
        .map(|k| KeyStep::Forget(k.key_use.clone()))
        .collect();
    let waiting = keys.iter().any(|k| k.state(now) == KeyState::Next);
    match active_key(keys, now) {
        // Nothing to hand over from: it signs at once.
        None if !waiting => steps.push(KeyStep::Create { active_from: now }),
        Some(active) if !waiting => {
            let due = active.active_from + schedule.rotate_every;
            if now_wanted {
                steps.push(KeyStep::Create { active_from: now + schedule.publish_before });
            } else if now + schedule.publish_before >= due {
                steps.push(KeyStep::Create { active_from: due.max(now + schedule.publish_before) });
            }
        }
        _ => {}
    }
    steps
}

/// The times a key gets when its successor takes over at `handover`.
pub fn retire(key: &KeyRecord, handover: Timestamp, schedule: &KeySchedule) -> KeyRecord {
    KeyRecord {
        retired_at: Some(handover),
        unpublished_at: Some(handover + schedule.longest_access_ttl + SLACK),
        ..key.clone()
    }
}
