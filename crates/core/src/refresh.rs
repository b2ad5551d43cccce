//! Refresh-token rotation: the six rows of the protocol (design §4).
//!
//! The rules converge racing tabs on one token within `grace`, never lose a session to a lost answer,
//! and end it when two parties hold its tokens. The model in `tests/model` checks this very function.

mod advance;

pub use advance::Advance;

use crate::credential::RefreshToken;
use crate::event::EndReason;
use crate::policy::{LostResponse, Policy};
use crate::session::{Change, Ended, Session, Status};
use crate::time::Timestamp;
use crate::timeline::TimelineKind;
use std::net::IpAddr;
use std::time::Duration;

/// What the store may do to what it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum OnRollback {
    /// It never forgets: a token ahead of the row is proof of two parties.
    #[default]
    Theft,
    /// It may lose the last writes (a Redis failover): a token ahead of the row mends it.
    Advance,
}

/// Who presents the token, for the timeline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presenter<'a> {
    /// Address.
    pub ip: Option<IpAddr>,
    /// User agent.
    pub user_agent: Option<&'a str>,
}

/// The answer to a refresh token, with the write that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Issue the successor of the token in use of `session` (for a repeat: the same bytes as before).
    Issue {
        /// The row as it is after the change.
        session: Session,
        /// Which of the rows of the protocol it was.
        how: Issued,
        /// What to commit before answering; empty for a repeat.
        change: Change,
    },
    /// Replaced a moment ago by another tab's renewal: refuse, the session lives.
    Superseded {
        /// A line for the timeline, and no write to the row.
        change: Change,
    },
    /// Two parties hold tokens of this session: it has ended now.
    Reuse {
        /// The ended row, its event and its line.
        change: Change,
    },
    /// The session had ended or run out before.
    Over(Ended),
}

/// Why a successor is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// The newest token was used for the first time.
    Advance,
    /// The token in use came again within grace.
    Repeat,
    /// It came again later: the answer was lost.
    Branch,
    /// The store had lost writes.
    Ahead,
}

/// Decides on an authentic refresh token of this session and client. Pure: same arguments, same answer.
pub fn rotate(
    session: &Session,
    policy: &Policy,
    token: &RefreshToken,
    on_rollback: OnRollback,
    at: (Timestamp, Presenter<'_>),
) -> Outcome {
    let (now, presenter) = at;
    if let Status::Over(ended) = session.status(policy, now) {
        return Outcome::Over(ended);
    }
    let row = &session.rotation;
    let (k, same_nonce) = (token.number, token.nonce == row.used_nonce);

    if k == row.used && same_nonce && row.used > 0 {
        let within_grace = policy.grace > Duration::ZERO && now.since(session.renewed_at) <= policy.grace;
        return match (within_grace, policy.lost_response) {
            (true, _) => repeat(session, now, presenter),
            (false, LostResponse::UntilUsed) => branch(session, policy, now, presenter),
            (false, LostResponse::GraceOnly) => reuse(session, now, presenter),
        };
    }
    if k <= row.used {
        return if k < row.used && was_replaced_recently(session, policy, k, now) {
            let mut change = Change::default();
            change.note(session, TimelineKind::Late, now, presenter.ip);
            Outcome::Superseded { change }
        } else {
            reuse(session, now, presenter)
        };
    }
    if k - row.used == 1 {
        return advance(session, policy, token, (now, Issued::Advance), presenter);
    }
    match on_rollback {
        OnRollback::Advance => advance(session, policy, token, (now, Issued::Ahead), presenter),
        OnRollback::Theft => reuse(session, now, presenter),
    }
}

fn advance(
    session: &Session,
    policy: &Policy,
    token: &RefreshToken,
    (now, how): (Timestamp, Issued),
    presenter: Presenter<'_>,
) -> Outcome {
    let mut next = renewed(session, policy, now);
    let row = &mut next.rotation;
    if now.since(row.window_at) > policy.grace {
        row.prev_window_at = row.window_at;
        row.prev_window_from = row.window_from;
        row.window_at = now;
        row.window_from = row.used;
    }
    row.used = token.number;
    row.used_nonce = token.nonce;
    row.branch = 0;
    let mut change = Change::default();
    if how == Issued::Ahead {
        change.note(&next, TimelineKind::Ahead, now, presenter.ip);
    }
    change.session = Some(next.clone());
    Outcome::Issue { session: next, how, change }
}

fn repeat(session: &Session, now: Timestamp, presenter: Presenter<'_>) -> Outcome {
    let mut change = Change::default();
    let elsewhere =
        presenter.ip != session.ip || presenter.user_agent.map(cut) != session.user_agent.as_deref().map(cut);
    if elsewhere {
        change.note(session, TimelineKind::RepeatElsewhere, now, presenter.ip);
    }
    Outcome::Issue { session: session.clone(), how: Issued::Repeat, change }
}

fn branch(session: &Session, policy: &Policy, now: Timestamp, presenter: Presenter<'_>) -> Outcome {
    let mut next = renewed(session, policy, now);
    next.rotation.branch = next.rotation.branch.saturating_add(1);
    let mut change = Change::default();
    change.note(&next, TimelineKind::Branch, now, presenter.ip);
    change.session = Some(next.clone());
    Outcome::Issue { session: next, how: Issued::Branch, change }
}

fn reuse(session: &Session, now: Timestamp, presenter: Presenter<'_>) -> Outcome {
    match session.end(EndReason::ReuseDetected, now, presenter.ip) {
        Some(change) => Outcome::Reuse { change },
        None => Outcome::Over(Ended { at: now, reason: EndReason::ReuseDetected }),
    }
}

/// Whether the window in which `k` became stale opened at most twice `grace` ago. Nobody can stretch
/// that time by renewing in a hurry: windows open at most once per `grace`.
fn was_replaced_recently(session: &Session, policy: &Policy, k: u64, now: Timestamp) -> bool {
    let row = &session.rotation;
    let opened = if k >= row.window_from {
        row.window_at
    } else if k >= row.prev_window_from {
        row.prev_window_at
    } else {
        return false;
    };
    policy.grace > Duration::ZERO && now.since(opened) <= policy.grace * 2
}

/// The session with its use recorded: version raised, idle deadline moved.
fn renewed(session: &Session, policy: &Policy, now: Timestamp) -> Session {
    let mut next = session.next();
    next.renewed_at = now;
    next.expires_at = session.deadlines(policy).absolute;
    next.idle_expires_at = policy.idle_ttl.map_or(next.expires_at, |ttl| (now + ttl).min(next.expires_at));
    next
}

/// User agents are stored cut; compare them cut.
fn cut(user_agent: &str) -> &str {
    user_agent.char_indices().nth(Session::USER_AGENT_MAX).map_or(user_agent, |(i, _)| &user_agent[..i])
}

#[cfg(test)]
mod tests;
