//! Signed tokens, kept for the next requests of their sessions: one signature per session and half-life of
//! the token, however many requests come, and however many at once.
//!
//! What is kept is used only for a session whose row was just read and found live, and only while everything
//! that the token says is still so ([`Wanted`]). Its memory is bounded in bytes: sessions are kept in two
//! generations; when the young one is full it becomes the old one, and what the old one held and nobody
//! asked for is gone.

use super::identity::Identity;
use crate::http::error::ApiResult;
use reseal_core::session::AccessLife;
use reseal_core::{Client, Scope, SessionId, Strength, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;
/// What an entry takes besides its headers: map, lock, counters.
const OVERHEAD: usize = 256;

/// Everything that a token says and that can change while its session lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// The user's revision.
    pub(super) rev: u64,
    /// What the session, as presented, vouches for.
    pub(super) strength: Strength,
    /// What it grants.
    pub(super) scope: &'a Scope,
    /// Projection, audience, algorithm.
    pub(super) client: &'a Client,
    /// The key that signs now.
    pub(super) kid: &'a str,
    /// The life that a new token would have.
    pub(super) life: AccessLife,
}

/// A token with all it was made for.
pub(super) struct Signed {
    identity: Identity,
    rev: u64,
    strength: Strength,
    scope: Scope,
    client_changed: (u32, Timestamp),
    kid: Box<str>,
    life: AccessLife,
}

impl Signed {
    fn new(identity: Identity, wanted: &Wanted<'_>) -> Self {
        Self {
            identity,
            rev: wanted.rev,
            strength: wanted.strength,
            scope: wanted.scope.clone(),
            client_changed: changed(wanted.client),
            kid: wanted.kid.into(),
            life: wanted.life,
        }
    }

    /// Whether it says what a new one would say, and still has half its life before it, or as much as a new
    /// one would have: near the end of the session a new token ends with it too.
    fn serves(&self, wanted: &Wanted<'_>) -> bool {
        let (life, now) = (self.life, wanted.life.iat);
        let half = life.iat + (life.exp - life.iat) / 2;
        let young = now < half || wanted.life.exp <= life.exp;
        self.rev == wanted.rev
            && self.strength == wanted.strength
            && (life.iat..life.exp).contains(&now)
            && young
            && *self.kid == *wanted.kid
            && self.client_changed == changed(wanted.client)
            && !self.is_of_the_second_of(wanted.client, now)
            && self.scope == *wanted.scope
    }
}

impl Signed {
    /// Whether it was signed in the second in which its client changed, and that second is over. Verifiers
    /// that read the feed cannot tell such a token from an older one.
    fn is_of_the_second_of(&self, client: &Client, now: i64) -> bool {
        let changed = client.updated_at > client.created_at && self.life.iat <= client.updated_at.secs();
        changed && now > self.life.iat
    }
}

fn changed(client: &Client) -> (u32, Timestamp) {
    (client.version, client.updated_at)
}

/// The tokens.
pub(super) struct TokenCache {
    shards: [Mutex<Shard>; SHARDS],
    /// Most bytes of one generation of one shard.
    most: usize,
    kept: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    places: HashMap<SessionId, Place>,
    bytes: usize,
}

struct Place {
    slot: Arc<Slot>,
    bytes: usize,
    /// When it is of no more use, in seconds.
    until: i64,
}

/// Locked while it is signed, so that whoever comes meanwhile waits for that signature and makes none.
type Slot = Mutex<Option<Arc<Signed>>>;

/// Whether a token had to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Hit,
    Miss,
}

impl TokenCache {
    /// One that takes at most about so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, most: (bytes / SHARDS / 2).max(1), kept: AtomicUsize::new(0) }
    }

    /// Writes the headers of the session's token to `write`; signs one where the one at hand does not serve.
    pub(super) fn with<T>(
        &self,
        sid: SessionId,
        wanted: &Wanted<'_>,
        sign: impl FnOnce() -> ApiResult<Identity>,
        write: impl FnOnce(&Identity) -> T,
    ) -> ApiResult<(T, Found)> {
        let slot = self.slot(sid, wanted.life.exp);
        let mut held = locked(&slot);
        if let Some(signed) = held.as_ref().filter(|signed| signed.serves(wanted)) {
            let signed = Arc::clone(signed);
            drop(held);
            return Ok((write(&signed.identity), Found::Hit));
        }
        let signed = Arc::new(Signed::new(sign()?, wanted));
        *held = Some(Arc::clone(&signed));
        drop(held);
        self.account(sid, &slot, (signed.identity.bytes() + OVERHEAD, signed.life.exp));
        Ok((write(&signed.identity), Found::Miss))
    }

    /// Drops what is of no more use.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut kept = 0;
        for shard in &self.shards {
            let mut shard = locked(shard);
            shard.young.sweep(now);
            shard.old.sweep(now);
            kept += shard.young.bytes + shard.old.bytes;
        }
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Bytes that it took at the last sweep, about.
    pub(super) fn bytes(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// The session's place, a new one if it has none.
    fn slot(&self, sid: SessionId, until: i64) -> Arc<Slot> {
        let mut shard = locked(self.shard(sid));
        if let Some(place) = shard.young.places.get(&sid) {
            return Arc::clone(&place.slot);
        }
        let place = shard.old.remove(sid);
        let place = place.unwrap_or_else(|| Place { slot: Arc::default(), bytes: OVERHEAD, until });
        let slot = Arc::clone(&place.slot);
        shard.keep(sid, place, self.most);
        slot
    }

    /// Notes what the place takes now, if it is still there.
    fn account(&self, sid: SessionId, slot: &Arc<Slot>, (bytes, until): (usize, i64)) {
        let mut shard = locked(self.shard(sid));
        let young = shard.young.remove(sid);
        let Some(place) = young.or_else(|| shard.old.remove(sid)) else { return };
        if Arc::ptr_eq(&place.slot, slot) {
            shard.keep(sid, Place { bytes, until, ..place }, self.most);
        } else {
            shard.keep(sid, place, self.most);
        }
    }

    fn shard(&self, sid: SessionId) -> &Mutex<Shard> {
        // The id is random: any byte of it spreads evenly.
        &self.shards[usize::from(sid.as_bytes()[0]) % SHARDS]
    }
}

impl Shard {
    fn keep(&mut self, sid: SessionId, place: Place, most: usize) {
        if place.bytes > most {
            return;
        }
        if self.young.bytes + place.bytes > most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += place.bytes;
        self.young.places.insert(sid, place);
    }
}

impl Generation {
    fn remove(&mut self, sid: SessionId) -> Option<Place> {
        let place = self.places.remove(&sid)?;
        self.bytes -= place.bytes;
        Some(place)
    }

    fn sweep(&mut self, now: Timestamp) {
        let mut bytes = 0;
        self.places.retain(|_, place| {
            let stays = now.secs() < place.until;
            bytes += if stays { place.bytes } else { 0 };
            stays
        });
        self.bytes = bytes;
        // A burst of sessions leaves no memory behind.
        if self.places.capacity() > 64 && self.places.len() < self.places.capacity() / 4 {
            self.places.shrink_to_fit();
        }
    }
}

/// The lock; what a panicked request left there is whole, since it is only ever replaced.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
