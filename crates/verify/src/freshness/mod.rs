//! What the feed told: which sessions ended, whose claims changed, which keys were withdrawn (design §7).
//!
//! Pure: the time is an argument. Everything only gets stricter: events may come in any order, late or
//! again, and never bring an old right back.
//!
//! # How long an entry is kept
//!
//! An event's `until` is its commit time + the longest `access_ttl` + 120 s. A token that it concerns was
//! issued before the commit, by a node whose clock may be 30 s ahead: its `exp` is at most commit + 30 s +
//! the longest `access_ttl`, and with 60 s of leeway, the most there is, it is refused for its age from
//! `until` - 30 s on. Both are compared with one clock, the verifier's own, so it does not matter here
//! whether that one is right. An entry goes when `until` has passed: 30 s to spare. They are what a clock
//! may be set back: [`Freshness::clock_went_back`] says when it was more, for then tokens come to life
//! again whose entries may be gone. The same 30 s are what a verifier's clock may be behind the
//! authority's, which drops events by its own; the feed's health shows the difference.

mod link;
mod maps;
mod shared;
#[cfg(test)]
mod tests;

pub use link::{HEARTBEAT_LIMIT, Moment};
pub use maps::Entries;
pub use shared::SharedFreshness;

use maps::Maps;
use reseal_core::event::{EndReason, LoggedEvent};
use reseal_core::{SessionId, UserId};

/// Entries that are kept unless told otherwise. An ended session takes 54 bytes, a changed user 75: four million take
/// 215 to 300 MB, twice that for the seconds of starting over.
pub const DEFAULT_MAX_ENTRIES: usize = 4_000_000;

/// Seconds that a clock may be set back before entries are missing: see the module.
const CLOCK_SLACK: i64 = 30;

/// What the feed says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing.
    Current,
    /// The user's claims or the client changed after it was issued.
    Stale,
    /// Its session has ended.
    SessionEnded(EndReason),
    /// The key that signed it was withdrawn.
    KeyWithdrawn,
}

/// What of a token the feed can concern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The key that signed it.
    pub kid: Option<&'a str>,
    /// Its session.
    pub sid: Option<SessionId>,
    /// Its user.
    pub sub: Option<UserId>,
    /// The revision of the user that it shows.
    pub rev: Option<u64>,
    /// Through which client it was issued.
    pub client_id: Option<&'a str>,
    /// When, Unix seconds.
    pub iat: Option<i64>,
}

/// The maps.
#[derive(Debug)]
pub struct Freshness {
    current: Maps,
    /// What was known when the feed started over; judged as well until it has caught up.
    old: Option<Maps>,
    max_entries: usize,
    /// The latest time that anything was dropped by.
    pruned_at: i64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_ENTRIES)
    }
}

impl Freshness {
    /// Empty maps for so many entries in all. While the feed starts over there may be twice as many.
    #[must_use]
    pub fn new(max_entries: usize) -> Self {
        let max_entries = max_entries.max(4);
        Self { current: Maps::new(max_entries), old: None, max_entries, pruned_at: i64::MIN }
    }

    /// Takes an event in. Any order, any repetition. One that finds no place makes the maps incomplete.
    pub fn apply(&mut self, event: &LoggedEvent) {
        self.current.apply(event);
    }

    /// What is known of a token. The worst counts: a withdrawn key, an ended session, stale claims.
    #[must_use]
    pub fn judge(&self, token: &Facts<'_>) -> Judgement {
        let Some(old) = &self.old else { return judge(&self.current, token) };
        let (current, old) = (judge(&self.current, token), judge(old, token));
        if severity(old) > severity(current) { old } else { current }
    }

    /// Whether that key was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self, kid: &str) -> bool {
        self.generations().any(|maps| maps.is_withdrawn(kid))
    }

    /// All live events will come again: new maps are built beside the old ones, and both are judged by
    /// until [`caught_up`](Self::caught_up).
    pub fn start_over(&mut self) {
        let built = std::mem::replace(&mut self.current, Maps::new(self.max_entries));
        match &mut self.old {
            // Again, before it had caught up: what came so far is small beside what was there.
            Some(old) => old.absorb(built),
            None => self.old = Some(built),
        }
        self.pruned_at = i64::MIN;
    }

    /// All live events have come. The old maps go, unless the new ones had no place for all of it.
    pub fn caught_up(&mut self) {
        if self.current.complete {
            self.old = None;
        }
    }

    /// Whether an event found no place: then the maps cannot tell, and the feed counts as lost. Mended by
    /// starting over, from `caught-up` on.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.generations().any(|maps| !maps.complete)
    }

    /// Whether the feed is to start over: the clock [went back](Self::clock_went_back), or an event found no
    /// place and now a quarter of the places is free.
    #[must_use]
    pub fn must_start_over(&self, now: i64) -> bool {
        let room = self.current.entries().total() <= self.max_entries / 4 * 3;
        self.clock_went_back(now) || (!self.current.complete && room)
    }

    /// Drops what no living token needs any more, a 64th of the maps at a time: call it about once a second.
    pub fn prune(&mut self, now: i64) {
        if self.clock_went_back(now) {
            return;
        }
        self.pruned_at = self.pruned_at.max(now);
        self.current.sweep_next(now);
        if let Some(old) = &mut self.old {
            old.sweep_next(now);
        }
    }

    /// Whether the clock is so far behind an earlier reading that tokens live again whose entries may have
    /// been dropped. The feed must start over.
    #[must_use]
    pub const fn clock_went_back(&self, now: i64) -> bool {
        now < self.pruned_at.saturating_sub(CLOCK_SLACK)
    }

    /// How many entries there are. Those of an old generation count until they go.
    #[must_use]
    pub fn entries(&self) -> Entries {
        let (current, old) =
            (self.current.entries(), self.old.as_ref().map(Maps::entries).unwrap_or_default());
        Entries {
            sessions: current.sessions + old.sessions,
            users: current.users + old.users,
            clients: current.clients + old.clients,
            keys: current.keys + old.keys,
        }
    }

    fn generations(&self) -> impl Iterator<Item = &Maps> {
        std::iter::once(&self.current).chain(&self.old)
    }
}

fn judge(maps: &Maps, token: &Facts<'_>) -> Judgement {
    if token.kid.is_some_and(|kid| maps.is_withdrawn(kid)) {
        return Judgement::KeyWithdrawn;
    }
    if let Some(reason) = token.sid.and_then(|sid| maps.ended(&sid)) {
        return Judgement::SessionEnded(reason);
    }
    // A token that does not say how old it is counts as older than any change.
    let least = token.sub.and_then(|sub| maps.least_revision(&sub));
    let before = token.client_id.and_then(|client_id| maps.client_before(client_id));
    if least.is_some_and(|least| token.rev.is_none_or(|rev| rev < least))
        || before.is_some_and(|before| token.iat.is_none_or(|iat| iat < before))
    {
        return Judgement::Stale;
    }
    Judgement::Current
}

const fn severity(judgement: Judgement) -> u8 {
    match judgement {
        Judgement::Current => 0,
        Judgement::Stale => 1,
        Judgement::SessionEnded(_) => 2,
        Judgement::KeyWithdrawn => 3,
    }
}
