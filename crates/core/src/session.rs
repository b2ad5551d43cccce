//! The one row of a login session: how it starts, how long it lives, how it ends.

use crate::auth::Strength;
use crate::auth::{Acr, Amr};
use crate::event::{EndReason, Event, EventKind};
use crate::id::{ClientId, KeyId, PolicyName, SessionId, UserId};
use crate::policy::{Policy, PolicyKind};
use crate::scope::Scope;
use crate::time::Timestamp;
use crate::timeline::{TimelineEntry, TimelineKind};
use std::net::IpAddr;

/// A login session of one user through one client.
///
/// Everything else (access tokens, refresh tokens, cookies) is a credential of it and is not stored.
/// Every write is a compare-and-swap on (`version`, not ended) and raises `version`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// 128 random bits; `sid` in tokens.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Through which client.
    pub client_id: ClientId,
    /// Under which policy, by name.
    pub policy: PolicyName,
    /// What was granted at login.
    pub scope: Scope,
    /// Raised by every write.
    pub version: u32,
    /// Refresh-token rotation (all zero but the nonce until first used).
    pub rotation: Rotation,
    /// The key-ring key its credentials are made with; the same for the session's whole life.
    pub key_id: KeyId,
    /// The last write that counts as use: start, renewal, touch.
    pub renewed_at: Timestamp,
    /// When the user logged in.
    pub started_at: Timestamp,
    /// It ends when not renewed before this. Equal to `expires_at` where the policy has no idle time.
    pub idle_expires_at: Timestamp,
    /// It ends at this instant in any case.
    pub expires_at: Timestamp,
    /// How strongly and when the user was authenticated.
    pub strength: Strength,
    /// The session cookie's state, for cookie policies.
    pub cookie: Option<CookieState>,
    /// Thumbprint of the key the credentials are bound to, if any.
    pub binding: Option<[u8; 32]>,
    /// The user agent that logged in, at most 200 characters.
    pub user_agent: Option<String>,
    /// The address that logged in.
    pub ip: Option<IpAddr>,
    /// Set once, never unset.
    pub ended: Option<Ended>,
}

/// What a session remembers of its refresh tokens: enough to make the successor again, and no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rotation {
    /// The number of the newest refresh token ever presented; 0 at the start.
    pub used: u64,
    /// Its nonce.
    pub used_nonce: [u8; 16],
    /// How often its successor was lost and a new one was derived.
    pub branch: u32,
    /// When the current window opened: the first advance later than `grace` after the last window opened.
    pub window_at: Timestamp,
    /// The first number that became stale in it.
    pub window_from: u64,
    /// When the window before it opened.
    pub prev_window_at: Timestamp,
    /// The first number that became stale in that one.
    pub prev_window_from: u64,
}

/// The state of a session cookie. The value itself is derived, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CookieState {
    /// Raised at every change of privilege; part of the cookie's value.
    pub generation: u32,
    /// When it was raised last.
    pub raised_at: Timestamp,
    /// Whether the newest value has been used. Until then the one before still answers, for a while.
    pub confirmed: bool,
    /// What the value before vouches for.
    pub previous: Strength,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
}

/// What is needed to start a session.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// 128 random bits.
    pub id: SessionId,
    /// 128 random bits, from which the first refresh token's nonce is derived.
    pub nonce: [u8; 16],
    /// Whose.
    pub user_id: UserId,
    /// Through which client.
    pub client_id: ClientId,
    /// What is granted.
    pub scope: Scope,
    /// The ring key that is current.
    pub key_id: KeyId,
    /// How the user was authenticated.
    pub strength: Strength,
    /// The user agent, cut to [`Session::USER_AGENT_MAX`] characters.
    pub user_agent: Option<String>,
    /// The address.
    pub ip: Option<IpAddr>,
}

/// When a session ends if nothing happens, under the policy of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// End by idleness; equal to `absolute` where the policy has no idle time.
    pub idle: Timestamp,
    /// End in any case.
    pub absolute: Timestamp,
}

/// Whether a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does, until then.
    Live(Deadlines),
    /// It ended, or ran out, at that time and for that reason.
    Over(Ended),
}

/// One write and all that follows from it, to be committed together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The session's next state, to be swapped in for the one that was read; `None` leaves the row.
    pub session: Option<Session>,
    /// Lines for the timeline.
    pub timeline: Vec<TimelineEntry>,
    /// Events for the log.
    pub events: Vec<EventKind>,
}

/// The life of one access token: `iat`, `exp` and `renew_at` in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLife {
    /// Issued at.
    pub iat: i64,
    /// Expires; never past the session's idle or absolute end.
    pub exp: i64,
    /// From when the holder may renew it by presenting it; only sliding sessions' tokens have it.
    pub renew_at: Option<i64>,
}

impl Session {
    /// Longest user agent kept, in characters.
    pub const USER_AGENT_MAX: usize = 200;

    /// Starts a session at `now` under `policy`.
    pub fn start(new: NewSession, policy: &Policy, now: Timestamp) -> (Self, Change) {
        let expires_at = now + policy.max_ttl;
        let session = Self {
            id: new.id,
            user_id: new.user_id,
            client_id: new.client_id,
            policy: policy.name.clone(),
            scope: new.scope,
            version: 1,
            rotation: Rotation {
                used: 0,
                used_nonce: new.nonce,
                branch: 0,
                window_at: Timestamp::EPOCH,
                window_from: 0,
                prev_window_at: Timestamp::EPOCH,
                prev_window_from: 0,
            },
            key_id: new.key_id,
            renewed_at: now,
            started_at: now,
            idle_expires_at: policy.idle_ttl.map_or(expires_at, |idle| (now + idle).min(expires_at)),
            expires_at,
            strength: new.strength,
            cookie: (policy.kind == PolicyKind::Cookie).then_some(CookieState {
                generation: 1,
                raised_at: now,
                confirmed: true,
                previous: new.strength,
            }),
            binding: None,
            user_agent: new.user_agent.map(|ua| ua.chars().take(Self::USER_AGENT_MAX).collect()),
            ip: new.ip,
            ended: None,
        };
        let mut change = Change { session: Some(session.clone()), ..Change::default() };
        change.note(&session, TimelineKind::Started, now, session.ip);
        if session.strength.amr.intersection(Amr::MFA) == Amr::MFA {
            change.note(&session, TimelineKind::FactorPassed, now, session.ip);
        }
        (session, change)
    }

    /// The deadlines that hold under `policy` now: a tightened policy binds at once, a loosened one
    /// never lengthens what was stored (design §3).
    pub fn deadlines(&self, policy: &Policy) -> Deadlines {
        let absolute = self.expires_at.min(self.started_at + policy.max_ttl);
        let idle = policy.idle_ttl.map_or(absolute, |ttl| self.renewed_at + ttl);
        Deadlines { idle: idle.min(self.idle_expires_at).min(absolute), absolute }
    }

    /// Whether the session lives at `now`.
    pub fn status(&self, policy: &Policy, now: Timestamp) -> Status {
        if let Some(ended) = self.ended {
            return Status::Over(ended);
        }
        let deadlines = self.deadlines(policy);
        if now < deadlines.idle {
            return Status::Live(deadlines);
        }
        let reason =
            if deadlines.idle < deadlines.absolute { EndReason::IdleTimeout } else { EndReason::MaxLifetime };
        Status::Over(Ended { at: deadlines.idle, reason })
    }

    /// Ends a live session. `None` when it has ended already: nothing revives it and nothing ends it twice.
    pub fn end(&self, reason: EndReason, now: Timestamp, ip: Option<IpAddr>) -> Option<Change> {
        if self.ended.is_some() {
            return None;
        }
        let next = Self { ended: Some(Ended { at: now, reason }), ..self.next() };
        let mut change =
            Change { events: vec![EventKind::SessionEnded { sid: self.id, reason }], ..Change::default() };
        change.note(&next, TimelineKind::Ended(reason), now, ip);
        change.session = Some(next);
        Some(change)
    }

    /// Raises the session to `strength` after a factor was passed. Like every change of privilege it
    /// gives the session cookie a new value (design §5).
    pub fn step_up(&self, strength: Strength, now: Timestamp, ip: Option<IpAddr>) -> Change {
        let mut next = self.change_privilege(now);
        next.strength = strength;
        let mut change = Change::default();
        change.note(&next, TimelineKind::FactorPassed, now, ip);
        change.session = Some(next);
        change
    }

    /// The session after a change of privilege: a cookie session gets a new cookie generation.
    #[must_use]
    pub fn change_privilege(&self, now: Timestamp) -> Self {
        let mut next = self.next();
        if let Some(cookie) = &mut next.cookie {
            *cookie = CookieState {
                generation: cookie.generation.saturating_add(1),
                raised_at: now,
                confirmed: false,
                previous: self.strength,
            };
        }
        next
    }

    /// The life of an access token issued at `now`.
    pub fn access_life(&self, policy: &Policy, now: Timestamp) -> AccessLife {
        let deadlines = self.deadlines(policy);
        let iat = now.secs();
        let ttl = i64::try_from(policy.access_ttl.as_secs()).unwrap_or(i64::MAX);
        let exp = match policy.kind {
            // A fixed session has one end, and each of its tokens has that same `exp`.
            PolicyKind::Fixed => deadlines.absolute.secs(),
            _ => iat.saturating_add(ttl).min(deadlines.idle.secs()),
        };
        let renew_at = (policy.kind == PolicyKind::Sliding).then(|| policy.renew_at(iat, exp));
        AccessLife { iat, exp, renew_at }
    }

    /// The life of an access token that replaces one because the claims changed. Only a sliding
    /// session's token gains time by it; any other ends when the one it replaces would have, so that
    /// a stolen access token cannot be kept alive by changing the record.
    pub fn resealed_life(&self, policy: &Policy, presented_exp: i64, now: Timestamp) -> AccessLife {
        let life = self.access_life(policy, now);
        match policy.kind {
            PolicyKind::Sliding => life,
            _ => AccessLife { exp: life.exp.min(presented_exp), ..life },
        }
    }

    /// A copy with the version raised, as every write needs.
    #[must_use]
    pub(crate) fn next(&self) -> Self {
        Self { version: self.version.wrapping_add(1), ..self.clone() }
    }

    /// What the session vouches for.
    pub const fn acr(&self) -> Acr {
        self.strength.acr
    }
}

impl Change {
    /// Adds a line to the timeline.
    pub fn note(&mut self, session: &Session, kind: TimelineKind, at: Timestamp, ip: Option<IpAddr>) {
        self.timeline.push(TimelineEntry { session_id: session.id, at, kind, ip });
    }

    /// Whether there is nothing to commit.
    pub const fn is_empty(&self) -> bool {
        self.session.is_none() && self.timeline.is_empty() && self.events.is_empty()
    }

    /// The events with their `until` (see [`crate::event::event_until`]).
    pub fn events_until(&self, until: Timestamp) -> impl Iterator<Item = Event> + '_ {
        self.events.iter().map(move |kind| Event { kind: kind.clone(), until })
    }
}

#[cfg(test)]
mod tests;
