//! The commit that every change of one's own record shares.

use crate::authority::Authority;
use crate::http::caller::{Caller, Presented, client_of, live_policy, superseded};
use crate::http::error::{ApiError, ApiResult};
use crate::manage::users::user_change;
use reseal_core::session::Change;
use reseal_core::touch::{CookieUse, use_cookie};
use reseal_core::user::UserSecrets;
use reseal_core::{Session, TimelineKind, User};
use reseal_store::{Commit, CommitError, Conflict, Snapshot, Write};
use std::time::Duration;

/// How often a change is decided on again because somebody else was faster.
pub(super) const ATTEMPTS: usize = 32;

/// The caller's session and record as they are now, and now becomes the time of the decision. The caller
/// was checked when the request came in; since then his password may have waited to be hashed, his session
/// may have ended, or his cookie been replaced.
pub(super) async fn read_again(app: &Authority, caller: &mut Caller) -> ApiResult<Snapshot> {
    caller.client = client_of(app, &caller.session).await?;
    caller.scope = caller.scope.intersection(&caller.client.scope);
    caller.now = app.clock.now();
    let gone = || ApiError::invalid_token("The session is gone. Sign in again.");
    let snapshot = app.store.session(caller.session.id).await?.ok_or_else(gone)?;
    live_policy(app, &snapshot.session, caller.now)?;
    if let Presented::Cookie { generation, .. } = caller.presented {
        match use_cookie(&snapshot.session, &caller.policy, generation, false, caller.now) {
            CookieUse::Accepted { .. } => {}
            CookieUse::Superseded => return Err(superseded()),
            CookieUse::Unknown => return Err(gone()),
            CookieUse::Over(ended) => return Err(ApiError::session_over(ended.reason)),
        }
    }
    Ok(snapshot)
}

/// What to commit.
pub(super) struct Update<'a> {
    /// The record as read.
    pub(super) old: &'a User,
    /// The record as it shall be, its version raised.
    pub(super) new: User,
    /// The secrets as they shall be, where they change.
    pub(super) secrets: Option<UserSecrets>,
    /// The caller's session as it shall be, with lines for its timeline. Its swap is also what makes sure
    /// that the session is still live.
    pub(super) session: Change,
    /// What else belongs to it.
    pub(super) extra: Vec<Write>,
}

/// Commits; `false`: somebody was faster, read again and decide again.
pub(super) async fn commit(app: &Authority, caller: &Caller, update: Update<'_>) -> ApiResult<bool> {
    let event_until = app.event_until(caller.now);
    let mut commit = Commit::of(update.extra);
    commit.writes.extend(user_change(update.old, update.new, update.secrets, caller.now, event_until));
    commit.push_change(update.session, event_until);
    match app.store.commit(commit).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict(
            Conflict::UserChanged | Conflict::SessionChanged | Conflict::ChallengeChanged,
        )) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The caller's session kept as it is, written only to be sure that it lives, with a line that its
/// credential was issued anew.
pub(super) fn resealed(session: &Session, caller: &Caller, ip: Option<std::net::IpAddr>) -> Change {
    let next = Session { version: session.version.wrapping_add(1), ..session.clone() };
    let mut change = Change::default();
    change.note(&next, TimelineKind::Resealed, caller.now, ip);
    change.session = Some(next);
    change
}

/// 503 when others were faster too often.
pub(super) fn too_busy() -> ApiError {
    ApiError::unavailable(Duration::from_secs(1))
}
