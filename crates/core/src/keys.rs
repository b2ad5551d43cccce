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

/// The number of the ring key that is made at `now` after those among `keys`.
///
/// A ring of which every key has retired was in a backup ([`give_up`]): keys that were made since are lost, and
/// nobody knows how many. None of them has the number of this minute, nor one above it, since so many are not made.
pub fn next_ring_id(keys: &[KeyRecord], now: Timestamp) -> KeyId {
    let in_ring = |key: &KeyRecord| match key.key_use {
        KeyUse::Ring { id } => Some((id.0, key.retired_at.is_some_and(|at| at <= now))),
        KeyUse::Signing { .. } => None,
    };
    let ring: Vec<(u32, bool)> = keys.iter().filter_map(in_ring).collect();
    let Some(newest) = ring.iter().map(|(number, _)| *number).max() else { return KeyId(1) };
    let is_given_up = ring.iter().all(|(_, has_retired)| *has_retired);
    let minute = u32::try_from(now.secs() / 60).ok().filter(|_| is_given_up).unwrap_or(0);
    KeyId(newest.saturating_add(1).max(minute))
}

/// The ring key as it is once a backup with it was put in place: it makes nothing more. `None`: it has retired.
pub fn give_up(key: &KeyRecord, now: Timestamp) -> Option<KeyRecord> {
    let is_used = key.retired_at.is_none_or(|at| at > now);
    is_used.then(|| KeyRecord { retired_at: Some(now), ..key.clone() })
}

/// The times a key gets when its successor takes over at `handover`.
pub fn retire(key: &KeyRecord, handover: Timestamp, schedule: &KeySchedule) -> KeyRecord {
    KeyRecord {
        retired_at: Some(handover),
        unpublished_at: Some(handover + schedule.longest_access_ttl + SLACK),
        ..key.clone()
    }
}

/// What the withdrawal of a signing key changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawal {
    /// Records as they are from now on; empty when the key was withdrawn before.
    pub changed: Vec<KeyRecord>,
    /// Whether nothing is left that could sign, so that a new key must be made and sign at once.
    pub create: bool,
}

/// Withdraws the signing key of that `kid` at once, because it may have leaked. `None`: there is none.
///
/// If it was to sign, its successor does so now, published long enough or not: verifiers that do not
/// know it yet fetch the key set again, and waiting would leave nothing that signs.
pub fn withdraw(keys: &[KeyRecord], kid: &str, now: Timestamp) -> Option<Withdrawal> {
    let named = |k: &&KeyRecord| matches!(&k.key_use, KeyUse::Signing { kid: id, .. } if id == kid);
    let key = keys.iter().find(named)?;
    if key.withdrawn_at.is_some() {
        return Some(Withdrawal::default());
    }
    let KeyUse::Signing { algorithm, .. } = &key.key_use else { return None };
    let is_sibling = |k: &KeyRecord| matches!(&k.key_use, KeyUse::Signing { algorithm: a, kid: id } if a == algorithm && id != kid);
    let siblings: Vec<KeyRecord> = keys.iter().filter(|k| is_sibling(k)).cloned().collect();
    let next = siblings.iter().filter(|k| k.state(now) == KeyState::Next).min_by_key(|k| k.active_from);
    let withdrawn = KeyRecord {
        withdrawn_at: Some(now),
        retired_at: Some(key.retired_at.map_or(now, |t| t.min(now))),
        ..key.clone()
    };
    let mut withdrawal = Withdrawal { changed: vec![withdrawn], create: false };
    match (active_key(&siblings, now), next) {
        // It was the successor: the key it was to take over from goes on.
        (Some(active), None) if active.retired_at.is_some() => {
            let going_on = KeyRecord { retired_at: None, unpublished_at: None, ..active.clone() };
            withdrawal.changed.push(going_on);
        }
        (Some(_), _) => {}
        (None, Some(next)) => withdrawal.changed.push(KeyRecord { active_from: now, ..next.clone() }),
        (None, None) => withdrawal.create = true,
    }
    Some(withdrawal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const SCHEDULE: KeySchedule = KeySchedule {
        rotate_every: Duration::from_secs(90 * 86_400),
        publish_before: Duration::from_secs(3600),
        longest_access_ttl: Duration::from_secs(300),
        longest_max_ttl: Duration::from_secs(86_400),
    };

    fn key(kid: &str, active_from: Timestamp) -> KeyRecord {
        KeyRecord {
            key_use: KeyUse::Signing { algorithm: "ES256".into(), kid: kid.into() },
            created_at: active_from - SCHEDULE.publish_before,
            active_from,
            retired_at: None,
            unpublished_at: None,
            withdrawn_at: None,
            sealed: vec![],
        }
    }

    fn after(keys: &[KeyRecord], withdrawal: &Withdrawal) -> Vec<KeyRecord> {
        let replaced = |k: &KeyRecord| withdrawal.changed.iter().find(|c| c.key_use == k.key_use).cloned();
        keys.iter().map(|k| replaced(k).unwrap_or_else(|| k.clone())).collect()
    }

    #[test]
    fn the_only_key_is_replaced_at_once() {
        let keys = [key("a", NOW - Duration::from_secs(10))];
        let withdrawal = withdraw(&keys, "a", NOW).unwrap();
        assert!(withdrawal.create);
        let left = after(&keys, &withdrawal);
        assert_eq!(left[0].state(NOW), KeyState::Withdrawn);
        assert!(!left[0].is_published(NOW) && active_key(&left, NOW).is_none());
        assert!(left[0].forget_at(&SCHEDULE).is_some(), "the record goes some day");
    }

    #[test]
    fn a_waiting_successor_signs_at_once() {
        let handover = NOW + Duration::from_secs(3000);
        let old = retire(&key("a", NOW - Duration::from_secs(10)), handover, &SCHEDULE);
        let keys = [old, key("b", handover)];
        let withdrawal = withdraw(&keys, "a", NOW).unwrap();
        assert!(!withdrawal.create);
        let left = after(&keys, &withdrawal);
        assert_eq!(active_key(&left, NOW).unwrap().key_use, keys[1].key_use);
    }

    #[test]
    fn the_active_key_goes_on_when_its_successor_is_withdrawn() {
        let handover = NOW + Duration::from_secs(3000);
        let old = retire(&key("a", NOW - Duration::from_secs(10)), handover, &SCHEDULE);
        let keys = [old, key("b", handover)];
        let left = after(&keys, &withdraw(&keys, "b", NOW).unwrap());
        let later = handover + Duration::from_secs(1);
        assert_eq!(active_key(&left, later).unwrap().key_use, keys[0].key_use);
        assert_eq!(left[1].state(later), KeyState::Withdrawn);
    }

    #[test]
    fn a_retired_key_goes_alone_and_only_once() {
        let retired =
            retire(&key("a", NOW - Duration::from_secs(100)), NOW - Duration::from_secs(1), &SCHEDULE);
        let keys = [retired, key("b", NOW - Duration::from_secs(1))];
        let withdrawal = withdraw(&keys, "a", NOW).unwrap();
        assert_eq!((withdrawal.changed.len(), withdrawal.create), (1, false));
        let left = after(&keys, &withdrawal);
        assert_eq!(withdraw(&left, "a", NOW), Some(Withdrawal::default()));
        assert_eq!(withdraw(&left, "c", NOW), None);
    }

    #[test]
    fn after_a_backup_no_number_is_of_a_key_that_is_lost() {
        let ring = |id, active_from| {
            let key_use = KeyUse::Ring { id: KeyId(id) };
            KeyRecord { key_use, ..key("", active_from) }
        };
        assert_eq!(next_ring_id(&[], NOW), KeyId(1));
        let handover = NOW + Duration::from_secs(3000);
        let keys = [retire(&ring(1, NOW), handover, &SCHEDULE), ring(2, handover)];
        for at in [NOW, handover, handover + SCHEDULE.rotate_every] {
            assert_eq!(next_ring_id(&keys, at), KeyId(3));
        }
        let restored = keys.map(|key| give_up(&key, NOW).unwrap());
        assert_eq!(restored.each_ref().map(|key| key.state(NOW)), [KeyState::Retired; 2]);
        assert!(restored.iter().all(|key| give_up(key, NOW).is_none()));
        let KeyId(first) = next_ring_id(&restored, NOW);
        // The same backup again, a little later, after many keys.
        let lost = first + 5;
        let KeyId(second) = next_ring_id(&restored, NOW + Duration::from_secs(10 * 60));
        assert!(first > 1000 && second > lost, "{first}, {second}");
        let high = [give_up(&ring(u32::MAX - 1, NOW), NOW).unwrap()];
        assert_eq!(next_ring_id(&high, NOW), KeyId(u32::MAX), "numbers only grow");
    }

    #[test]
    fn a_withdrawal_leaves_other_algorithms_alone() {
        let mut other = key("e", NOW - Duration::from_secs(10));
        other.key_use = KeyUse::Signing { algorithm: "EdDSA".into(), kid: "e".into() };
        let keys = [key("a", NOW - Duration::from_secs(10)), other];
        let withdrawal = withdraw(&keys, "a", NOW).unwrap();
        assert!(withdrawal.create, "a key of another algorithm cannot stand in");
        assert_eq!(withdrawal.changed.len(), 1);
    }
}
