//! One generation of what is known: four maps, each entry with the second after which it may go.

use reseal_core::event::{EndReason, EventKind, LoggedEvent};
use reseal_core::{SessionId, UserId};
use std::collections::HashMap;
use std::hash::RandomState;

/// Ids are spread over so many maps by their last byte (random in session ids and UUIDs alike), so that
/// growing or sweeping one never holds the readers up for long.
pub(super) const SHARDS: usize = 64;
/// Longest total of the names of withdrawn keys.
const MAX_KID_BYTES: usize = 1 << 20;

/// Unix seconds in four bytes, rounded up; the greatest value stands for "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Until(u32);

impl Until {
    fn of(logged: &LoggedEvent) -> Self {
        let secs = logged.event.until.millis().saturating_add(999).div_euclid(1000);
        Self(u32::try_from(secs.max(0)).unwrap_or(u32::MAX))
    }

    fn has_passed(self, now: i64) -> bool {
        self.0 != u32::MAX && i64::from(self.0) < now
    }
}

/// An entry that only ever gets stricter.
pub(super) trait Entry: Copy {
    fn merge(&mut self, other: Self);
    fn until(&self) -> Until;
}

/// An ended session: five bytes and three of padding beside the id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    until: Until,
    /// Index in [`EndReason::ALL`].
    reason: u8,
}

impl Entry for Ended {
    fn merge(&mut self, other: Self) {
        self.until = self.until.max(other.until);
        // A session ends once; should the log ever say it twice, the order must not matter.
        self.reason = self.reason.min(other.reason);
    }

    fn until(&self) -> Until {
        self.until
    }
}

/// The least valid `rev` of a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revision {
    least: u64,
    until: Until,
}

impl Entry for Revision {
    fn merge(&mut self, other: Self) {
        self.least = self.least.max(other.least);
        self.until = self.until.max(other.until);
    }

    fn until(&self) -> Until {
        self.until
    }
}

/// The least valid `iat` of a client's tokens.
#[derive(Clone, Copy, Debug)]
struct Changed {
    before: i64,
    until: Until,
}

/// A map by 16 random bytes, in shards that are swept in turn.
#[derive(Debug)]
struct ById<V> {
    shards: Vec<HashMap<[u8; 16], V>>,
    len: usize,
}

impl<V: Entry> ById<V> {
    fn new(hasher: &RandomState) -> Self {
        Self { shards: (0..SHARDS).map(|_| HashMap::with_hasher(hasher.clone())).collect(), len: 0 }
    }

    fn find(&self, id: &[u8; 16]) -> Option<&V> {
        self.shards[usize::from(id[15]) % SHARDS].get(id)
    }

    /// Whether it is in now: a new id finds no place beyond `room`.
    fn merge(&mut self, id: [u8; 16], entry: V, room: bool) -> bool {
        let shard = &mut self.shards[usize::from(id[15]) % SHARDS];
        if let Some(known) = shard.get_mut(&id) {
            known.merge(entry);
        } else if room {
            shard.insert(id, entry);
            self.len += 1;
        } else {
            return false;
        }
        true
    }

    fn sweep(&mut self, shard: usize, now: i64) {
        let shard = &mut self.shards[shard % SHARDS];
        let before = shard.len();
        shard.retain(|_, entry| !entry.until().has_passed(now));
        self.len -= before - shard.len();
        if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
            shard.shrink_to(shard.len() * 2);
        }
    }
}

/// How many entries each map has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Entries {
    /// Ended sessions.
    pub sessions: usize,
    /// Users whose claims changed.
    pub users: usize,
    /// Clients that changed.
    pub clients: usize,
    /// Withdrawn keys.
    pub keys: usize,
}

impl Entries {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> usize {
        self.sessions + self.users + self.clients + self.keys
    }
}

#[derive(Debug)]
pub(super) struct Maps {
    sessions: ById<Ended>,
    users: ById<Revision>,
    clients: HashMap<Box<str>, Changed>,
    keys: HashMap<Box<str>, Until>,
    kid_bytes: usize,
    max_entries: usize,
    next_shard: usize,
    /// Whether nothing that was applied found no place.
    pub(super) complete: bool,
}

impl Maps {
    pub(super) fn new(max_entries: usize) -> Self {
        // One seed: the ids are random, and the shards need no different ones.
        let hasher = RandomState::new();
        Self {
            sessions: ById::new(&hasher),
            users: ById::new(&hasher),
            clients: HashMap::new(),
            keys: HashMap::new(),
            kid_bytes: 0,
            max_entries,
            next_shard: 0,
            complete: true,
        }
    }

    pub(super) fn apply(&mut self, logged: &LoggedEvent) {
        let until = Until::of(logged);
        let room = self.has_room();
        match &logged.event.kind {
            EventKind::SessionEnded { sid, reason } => {
                let reason = EndReason::ALL.iter().position(|r| r == reason).unwrap_or_default();
                let ended = Ended { until, reason: u8::try_from(reason).unwrap_or_default() };
                self.complete &= self.sessions.merge(*sid.as_bytes(), ended, room);
            }
            EventKind::ClaimsChanged { sub, rev } => {
                let revision = Revision { least: *rev, until };
                self.complete &= self.users.merge(*sub.as_bytes(), revision, room);
            }
            EventKind::ClientChanged { client_id, before } => {
                self.change_client(client_id.as_str(), Changed { before: *before, until });
            }
            EventKind::KeysChanged { withdrawn } => {
                for kid in withdrawn {
                    self.withdraw(kid, until);
                }
            }
            // The type may grow; what this version cannot judge it must not pass over in silence.
            _ => self.complete = false,
        }
    }

    fn change_client(&mut self, client_id: &str, changed: Changed) {
        if let Some(known) = self.clients.get_mut(client_id) {
            known.before = known.before.max(changed.before);
            known.until = known.until.max(changed.until);
        } else if self.has_room() {
            self.clients.insert(client_id.into(), changed);
        } else {
            self.complete = false;
        }
    }

    fn withdraw(&mut self, kid: &str, until: Until) {
        if let Some(known) = self.keys.get_mut(kid) {
            *known = until.max(*known);
        } else if self.has_room() && self.kid_bytes + kid.len() <= MAX_KID_BYTES {
            self.kid_bytes += kid.len();
            self.keys.insert(kid.into(), until);
        } else {
            self.complete = false;
        }
    }

    fn has_room(&self) -> bool {
        self.entries().total() < self.max_entries
    }

    /// Takes in all of another generation.
    pub(super) fn absorb(&mut self, other: Self) {
        self.complete &= other.complete;
        for (id, ended) in other.sessions.shards.into_iter().flatten() {
            let room = self.has_room();
            self.complete &= self.sessions.merge(id, ended, room);
        }
        for (id, revision) in other.users.shards.into_iter().flatten() {
            let room = self.has_room();
            self.complete &= self.users.merge(id, revision, room);
        }
        for (client_id, changed) in other.clients {
            self.change_client(&client_id, changed);
        }
        for (kid, until) in other.keys {
            self.withdraw(&kid, until);
        }
    }

    /// Drops the dead of the next shard, and those of the two small maps.
    pub(super) fn sweep_next(&mut self, now: i64) {
        self.sessions.sweep(self.next_shard, now);
        self.users.sweep(self.next_shard, now);
        self.next_shard = (self.next_shard + 1) % SHARDS;
        if self.next_shard == 0 {
            self.clients.retain(|_, changed| !changed.until.has_passed(now));
            let kid_bytes = &mut self.kid_bytes;
            self.keys.retain(|kid, until| {
                let keep = !until.has_passed(now);
                *kid_bytes -= if keep { 0 } else { kid.len() };
                keep
            });
        }
    }

    pub(super) fn ended(&self, sid: &SessionId) -> Option<EndReason> {
        let ended = self.sessions.find(sid.as_bytes())?;
        Some(EndReason::ALL.get(usize::from(ended.reason)).copied().unwrap_or(EndReason::Revoked))
    }

    /// The least valid `rev`.
    pub(super) fn least_revision(&self, sub: &UserId) -> Option<u64> {
        self.users.find(sub.as_bytes()).map(|revision| revision.least)
    }

    /// The least valid `iat`.
    pub(super) fn client_before(&self, client_id: &str) -> Option<i64> {
        self.clients.get(client_id).map(|changed| changed.before)
    }

    pub(super) fn is_withdrawn(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    pub(super) fn entries(&self) -> Entries {
        Entries {
            sessions: self.sessions.len,
            users: self.users.len,
            clients: self.clients.len(),
            keys: self.keys.len(),
        }
    }
}
