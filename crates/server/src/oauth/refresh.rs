//! The refresh_token grant: parse → authenticate → decide next to the row → answer.

use super::token::TokenRequest;
use crate::authority::{App, Authority};
use crate::http::answer::{CredentialAnswer, Grant};
use crate::http::caller::{Origin, ShownIp};
use crate::http::error::{ApiError, ApiResult};
use crate::session::login::invalid_scope;
use http::StatusCode;
use reseal_core::credential::{RefreshToken, Unauthentic, UnverifiedRefreshToken};
use reseal_core::policy::Policies;
use reseal_core::refresh::{Advance, Issued, OnRollback, Outcome, Presenter, rotate};
use reseal_core::session::{Change, Ended};
use reseal_core::{
    Client, ClientId, EndReason, PolicyKind, Scope, Session, SessionId, Timestamp, User, UserId,
};
use reseal_store::Snapshot;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Answers a refresh request of an authenticated client.
pub(super) async fn refresh(
    app: &App,
    client: &Arc<Client>,
    request: &TokenRequest,
    origin: Origin,
) -> ApiResult<CredentialAnswer> {
    let now = app.clock.now();
    let text = request
        .refresh_token
        .as_ref()
        .ok_or_else(|| ApiError::invalid_request("refresh_token is missing."))?;
    let token = authenticate(app, text).await?;
    if let Some(access_token) = &request.access_token {
        check_same_session(app, access_token, &token, now)?;
    }
    let asked = request.scope.as_deref().map(str::parse::<Scope>).transpose().map_err(|_| invalid_scope())?;

    // Nearly always the token is the newest of a session under the client's own policy. What is asked for beyond
    // that is left to the decision alone.
    let foreseen = app
        .policies
        .find(&client.policy)
        .filter(|_| asked.is_none())
        .and_then(|policy| Advance::of(&token, &client.id, policy, now));
    let attempt = Attempt {
        token,
        client_id: client.id.clone(),
        may_have: client.scope.clone(),
        asked,
        origin,
        now,
        on_rollback: app.on_rollback(),
        policies: Arc::clone(&app.policies),
    };
    let place = (token.session_id, app.event_until(now));
    let decided = reseal_store::decide_foreseen(&*app.store, place, foreseen, move |s| attempt.decide(s))
        .await?
        .ok_or_else(not_ours)?;
    answer(app, client, decided, now)
}

/// The refresh token, if we made it. A key that is not here yet is looked for once; a token is never
/// called invalid because this node is behind.
pub async fn authenticate(app: &Authority, text: &str) -> ApiResult<RefreshToken> {
    let parse = || UnverifiedRefreshToken::parse(text).map_err(|_| not_ours());
    let keys = app.keys.load();
    match keys.ring.authenticate_refresh_token(parse()?) {
        Ok(token) => return Ok(token),
        Err(Unauthentic::Forged) => return Err(not_ours()),
        Err(Unauthentic::UnknownKey(id)) if keys.ring.has_forgotten(id) => return Err(not_ours()),
        Err(Unauthentic::UnknownKey(_)) => {}
    }
    if let Err(error) = app.reload_keys_soon().await {
        tracing::error!(%error, "the keys could not be read again");
        return Err(ApiError::unavailable(Duration::from_secs(1)));
    }
    app.keys.load().ring.authenticate_refresh_token(parse()?).map_err(|e| match e {
        Unauthentic::Forged => not_ours(),
        Unauthentic::UnknownKey(_) => ApiError::unavailable(Duration::from_secs(5)),
    })
}

/// The access token sent along must name the same session, if it can be verified at all.
fn check_same_session(app: &Authority, access: &str, token: &RefreshToken, now: Timestamp) -> ApiResult<()> {
    match app.verify_access_token(access, now, true) {
        Ok(claims) if claims.sid != Some(token.session_id) => {
            Err(ApiError::invalid_grant("The access token sent along belongs to another session."))
        }
        _ => Ok(()),
    }
}

/// Everything the decision depends on besides the row.
struct Attempt {
    token: RefreshToken,
    client_id: ClientId,
    may_have: Scope,
    asked: Option<Scope>,
    origin: Origin,
    now: Timestamp,
    on_rollback: OnRollback,
    policies: Arc<Policies>,
}

/// What was decided.
enum Decided {
    Issue(Box<Issue>),
    NotOurs,
    InvalidScope,
    Superseded,
    Reuse { sid: SessionId, sub: UserId, ip: Option<IpAddr> },
    Over(Ended),
}

struct Issue {
    session: Session,
    user: Arc<User>,
    scope: Scope,
    how: Issued,
}

impl Attempt {
    /// Runs next to the row, perhaps more than once. What is refused before the rotation leaves no trace.
    fn decide(&self, snapshot: &Snapshot) -> (Decided, Change) {
        let Snapshot { session, user } = snapshot;
        let nothing = Change::default;
        if session.client_id != self.client_id || !self.token.is_of(session) {
            return (Decided::NotOurs, nothing());
        }
        let may_have = session.scope.intersection(&self.may_have);
        let scope = match &self.asked {
            Some(asked) if !asked.is_subset(&may_have) => return (Decided::InvalidScope, nothing()),
            Some(asked) => asked.clone(),
            None => may_have,
        };
        let policy = match self.policies.find(&session.policy) {
            Some(policy) if policy.kind == PolicyKind::Refresh => policy,
            _ => {
                let ended = session.ended.unwrap_or(Ended { at: self.now, reason: EndReason::Revoked });
                return (Decided::Over(ended), nothing());
            }
        };
        let presenter = Presenter { ip: self.origin.ip, user_agent: self.origin.user_agent.as_deref() };
        match rotate(session, policy, &self.token, self.on_rollback, (self.now, presenter)) {
            Outcome::Issue { session, how, change } => {
                let issue = Issue { session, user: Arc::clone(user), scope, how };
                (Decided::Issue(Box::new(issue)), change)
            }
            Outcome::Superseded { change } => (Decided::Superseded, change),
            Outcome::Reuse { change } => {
                (Decided::Reuse { sid: session.id, sub: user.id, ip: self.origin.ip }, change)
            }
            Outcome::Over(ended) => (Decided::Over(ended), nothing()),
        }
    }
}

fn answer(app: &App, client: &Client, decided: Decided, now: Timestamp) -> ApiResult<CredentialAnswer> {
    match decided {
        Decided::Issue(issue) => {
            app.metrics.refresh(match issue.how {
                Issued::Advance => "advance",
                Issued::Repeat => "repeat",
                Issued::Branch => "branch",
                Issued::Ahead => "ahead",
            });
            let Issue { session, user, scope, .. } = &*issue;
            let policy = app.policies.find(&session.policy).ok_or_else(not_ours)?;
            let strength = session.strength;
            let grant = Grant { session, user, client, policy, strength, scope, now };
            let mut answer = app.grant(grant, StatusCode::OK)?;
            answer.body.scope = Some(scope.to_string());
            Ok(answer)
        }
        Decided::NotOurs => Err(not_ours()),
        Decided::InvalidScope => Err(invalid_scope()),
        Decided::Superseded => {
            app.metrics.refresh("late");
            Err(ApiError::invalid_grant(
                "This refresh token was replaced a moment ago; use the newer one. The session lives.",
            )
            .reason(reseal_core::touch::SUPERSEDED))
        }
        Decided::Reuse { sid, sub, ip } => {
            app.metrics.refresh("theft");
            app.metrics.session_ended(EndReason::ReuseDetected.as_str());
            tracing::warn!(%sub, %sid, client_id = %client.id, ip = %ShownIp(ip), "a used refresh token came back; its session is ended");
            Err(over(EndReason::ReuseDetected))
        }
        Decided::Over(ended) => Err(over(ended.reason)),
    }
}

fn over(reason: EndReason) -> ApiError {
    ApiError::invalid_grant(format!("The session is over ({reason}). Sign in again.")).reason(reason.as_str())
}

/// Malformed, forged, or another client's: they all look the same, and leave the session untouched.
fn not_ours() -> ApiError {
    ApiError::invalid_grant("The refresh token is not valid for this client.")
}
