//! Sliding access tokens and session cookies: they touch the row instead of rotating.
//!
//! Whether to *issue* depends on what was presented; whether to *write* depends on the row. So any
//! number of parallel requests with the same old credential each get a good new one, for one write
//! per half-life (design §3).

use crate::auth::Strength;
use crate::policy::{Policy, PolicyKind};
use crate::session::{Change, Ended, Session, Status};
use crate::time::Timestamp;
use std::time::Duration;

/// What an access token that is presented for renewal says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedToken {
    /// Issued at, seconds.
    pub iat: i64,
    /// Expires, seconds.
    pub exp: i64,
    /// The user's revision that its claims show.
    pub rev: u64,
    /// What it vouches for.
    pub strength: Strength,
}

/// The answer to a renewal of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Too early; from `renew_at` (seconds) on, or never.
    NotYet {
        /// When to come again; `None` where only changed claims renew it.
        renew_at: Option<i64>,
    },
    /// Issue a new access token of this strength.
    Issue {
        /// The row as it is after the change.
        session: Session,
        /// What the new token may vouch for: never more than the one presented.
        strength: Strength,
        /// What to commit first; empty when the row was touched less than a half-life ago.
        change: Change,
    },
    /// The session has ended or run out.
    Over(Ended),
}

/// Renews the access token of a sliding session, or reseals one of any kind whose claims changed.
///
/// The token itself must have been verified, `exp` included: an expired access token never renews. What is
/// resealed lives by [`Session::resealed_life`]: only a sliding session's token gains time by it.
pub fn renew_access(
    session: &Session,
    policy: &Policy,
    token: &PresentedToken,
    revision: u64,
    now: Timestamp,
) -> Renewal {
    let deadlines = match session.status(policy, now) {
        Status::Live(deadlines) => deadlines,
        Status::Over(ended) => return Renewal::Over(ended),
    };
    let strength = session.strength.weaker(token.strength);
    let stale = token.rev < revision;
    match policy.kind {
        PolicyKind::Sliding => {
            let renew_at = policy.renew_at(token.iat, token.exp);
            if !stale && now.secs() < renew_at {
                return Renewal::NotYet { renew_at: Some(renew_at) };
            }
            let change = touch(session, policy, deadlines.absolute, now);
            let session = change.session.clone().unwrap_or_else(|| session.clone());
            Renewal::Issue { session, strength, change }
        }
        PolicyKind::Fixed | PolicyKind::Refresh | PolicyKind::Cookie if stale => {
            Renewal::Issue { session: session.clone(), strength, change: Change::default() }
        }
        PolicyKind::Fixed | PolicyKind::Refresh | PolicyKind::Cookie => Renewal::NotYet { renew_at: None },
    }
}

/// The answer to a session cookie, for any request that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieUse {
    /// It is good.
    Accepted {
        /// The row as it is after the change.
        session: Session,
        /// What this value vouches for.
        strength: Strength,
        /// Whether to send the newest value (again).
        send: bool,
        /// When a touch is due next (seconds).
        renew_at: i64,
        /// What to commit first, if anything.
        change: Change,
    },
    /// Replaced by a newer value at a change of privilege: refuse, the session lives.
    Superseded,
    /// Not a value this session ever had.
    Unknown,
    /// The session has ended or run out.
    Over(Ended),
}

/// How long the value before the newest one still answers, if the newest was never used.
pub const OLD_COOKIE_ANSWERS: Duration = Duration::from_secs(60);
/// How long it gets the newest one sent again: a lost `Set-Cookie` must not end the session.
pub const OLD_COOKIE_RESENDS: Duration = Duration::from_secs(10);

/// Decides on an authentic session cookie of `generation`.
///
/// With `slide`, the row is touched when its half-life has passed and the cookie is sent anew.
pub fn use_cookie(
    session: &Session,
    policy: &Policy,
    generation: u32,
    slide: bool,
    now: Timestamp,
) -> CookieUse {
    let deadlines = match session.status(policy, now) {
        Status::Live(deadlines) => deadlines,
        Status::Over(ended) => return CookieUse::Over(ended),
    };
    let Some(cookie) = session.cookie else { return CookieUse::Unknown };
    let age = now.since(cookie.raised_at);
    let (strength, send, confirm) = if generation == cookie.generation {
        (session.strength, false, !cookie.confirmed)
    } else if generation > cookie.generation {
        return CookieUse::Unknown;
    } else if generation.checked_add(1) == Some(cookie.generation)
        && !cookie.confirmed
        && age <= OLD_COOKIE_ANSWERS
    {
        (session.strength.weaker(cookie.previous), age <= OLD_COOKIE_RESENDS, false)
    } else {
        return CookieUse::Superseded;
    };

    let mut change = if slide { touch(session, policy, deadlines.absolute, now) } else { Change::default() };
    let touched = change.session.is_some();
    if confirm {
        let mut next = change.session.take().unwrap_or_else(|| session.next());
        if let Some(cookie) = &mut next.cookie {
            cookie.confirmed = true;
        }
        change.session = Some(next);
    }
    let session = change.session.clone().unwrap_or_else(|| session.clone());
    let renew_at = touch_due(&session, policy);
    // The previous value must not be prolonged: only the newest is sent anew when it slides.
    let send = send || (touched && generation == cookie.generation);
    CookieUse::Accepted { session, strength, send, renew_at, change }
}

/// Moves the idle deadline, at most once per half-life.
fn touch(session: &Session, policy: &Policy, absolute: Timestamp, now: Timestamp) -> Change {
    if !is_touch_due(session, policy, now) {
        return Change::default();
    }
    let mut next = session.next();
    next.renewed_at = now;
    next.expires_at = absolute;
    next.idle_expires_at = policy.idle_ttl.map_or(absolute, |ttl| (now + ttl).min(absolute));
    Change { session: Some(next), ..Change::default() }
}

/// Whether half the life of the last touch has passed. A half-life below a second is measured exactly:
/// rounded down it would be none, and every request would write.
fn is_touch_due(session: &Session, policy: &Policy, now: Timestamp) -> bool {
    let half = policy.half_life();
    if half < Duration::from_secs(1) {
        now.since(session.renewed_at) >= half
    } else {
        now.secs() >= touch_due(session, policy)
    }
}

/// When the row may be touched next, in whole seconds like the `renew_at` of a token issued with the
/// last touch: the first renewal that a client is told to make is also one that counts.
pub fn touch_due(session: &Session, policy: &Policy) -> i64 {
    let half = i64::try_from(policy.half_life().as_secs()).unwrap_or(i64::MAX);
    session.renewed_at.secs().saturating_add(half)
}

/// The reason told when a cookie or a refresh token was replaced but its session lives.
pub const SUPERSEDED: &str = "superseded";

#[cfg(test)]
mod tests;
