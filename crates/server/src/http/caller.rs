//! Who calls: the holder of an access token or of a session cookie, checked against the row.

use crate::authority::{App, Authority};
use crate::http::error::{ApiError, ApiResult};
use crate::http::origin::check_cookie_request;
use crate::tokens::{OwnClaims, TokenFault};
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use reseal_core::credential::{SessionCookie, Unauthentic, UnverifiedSessionCookie};
use reseal_core::session::Status;
use reseal_core::touch::{CookieUse, PresentedToken, use_cookie};
use reseal_core::{Client, Policy, Scope, Session, Strength, Timestamp, User};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A caller with a live session.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session as read (and, for a cookie, as changed by its use).
    pub session: Session,
    /// Its user.
    pub user: Arc<User>,
    /// Its client.
    pub client: Arc<Client>,
    /// Its policy.
    pub policy: Policy,
    /// What was presented.
    pub presented: Presented,
    /// What that vouches for.
    pub strength: Strength,
    /// What it grants.
    pub scope: Scope,
    /// The time of the request.
    pub now: Timestamp,
}

/// The credential that a caller came with.
#[derive(Clone, Debug)]
pub enum Presented {
    /// An access token.
    Token(PresentedToken),
    /// A session cookie.
    Cookie {
        /// Its generation.
        generation: u32,
        /// Whether the answer must carry the newest value.
        send: bool,
    },
}

/// What kind of credential a request carries, before it is looked at.
enum Credential {
    Bearer(String),
    Cookie(String),
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let now = app.clock.now();
        match credential(app, &parts.headers)? {
            Some(Credential::Bearer(token)) => from_token(app, &token, now).await,
            Some(Credential::Cookie(value)) => {
                from_cookie(app, &value, (&parts.method, &parts.headers), (false, now)).await
            }
            None => Err(ApiError::unauthenticated()),
        }
    }
}

impl Caller {
    /// Refuses a caller whose login is older than `max_age` (RFC 9470). Call it for what changes how the
    /// user authenticates, unless the current password came along.
    pub fn require_recent_login(&self, max_age: Duration) -> ApiResult<()> {
        let age = self.now.since(self.strength.authenticated_at);
        if age <= max_age { Ok(()) } else { Err(ApiError::stale_authentication(max_age)) }
    }
}

async fn from_token(app: &Authority, token: &str, now: Timestamp) -> ApiResult<Caller> {
    let claims = match verify_bearer(app, token, now).await {
        Ok(claims) => claims,
        Err(refused) => return Err(why_expired(app, token, now).await?.unwrap_or(refused)),
    };
    let (Some(sid), Some(presented)) = (claims.sid, claims.presented()) else {
        return Err(ApiError::forbidden(
            "no_session",
            "This call is for the user of a session, not for a client.",
        ));
    };
    let refused = || ApiError::invalid_token("The access token belongs to no session.");
    let snapshot = app.store.session(sid).await?.ok_or_else(refused)?;
    if snapshot.session.client_id != claims.client_id || Some(snapshot.session.user_id) != claims.user_id() {
        return Err(refused());
    }
    let policy = live_policy(app, &snapshot.session, now)?;
    let client = client_of(app, &snapshot.session).await?;
    let now = app.after_waiting(&client, now);
    let strength = snapshot.session.strength.weaker(presented.strength);
    let scope = claims.scope.intersection(&snapshot.session.scope).intersection(&client.scope);
    Ok(Caller {
        session: snapshot.session,
        user: snapshot.user,
        client,
        policy,
        presented: Presented::Token(presented),
        strength,
        scope,
        now,
    })
}

/// The holder of an expired token is told why its session is over, if it is. `None`: it lives, or the token
/// is not ours at all.
async fn why_expired(app: &Authority, token: &str, now: Timestamp) -> ApiResult<Option<ApiError>> {
    let Ok(OwnClaims { sid: Some(sid), client_id, .. }) = app.verify_access_token(token, now, true) else {
        return Ok(None);
    };
    let found = app.store.session(sid).await?.filter(|s| s.session.client_id == client_id);
    Ok(found.and_then(|s| live_policy(app, &s.session, now).err()))
}

/// The holder of a session cookie, for a request that counts as `method`. With `slide`, the session is
/// touched when its half-life has passed.
pub async fn from_cookie(
    app: &Authority,
    value: &str,
    (method, headers): (&Method, &HeaderMap),
    (slide, now): (bool, Timestamp),
) -> ApiResult<Caller> {
    let refused = || ApiError::invalid_token("The session cookie is not valid. Sign in again.");
    let cookie = authenticate(app, value, refused).await?;
    let found = app.store.session(cookie.session_id).await?;
    let mut snapshot = found.filter(|s| cookie.is_of(&s.session)).ok_or_else(refused)?;
    // Before anything is touched: a request that a foreign site made must leave no trace.
    let client = client_of(app, &snapshot.session).await?;
    let now = app.after_waiting(&client, now);
    check_cookie_request(method, headers, (&app.issuer, &client.origins))?;
    let policy = live_policy(app, &snapshot.session, now)?;

    let mut used = use_cookie(&snapshot.session, &policy, cookie.generation, slide, now);
    if matches!(&used, CookieUse::Accepted { change, .. } if !change.is_empty()) {
        let rules = policy.clone();
        let again = move |s: &reseal_store::Snapshot| {
            let used = use_cookie(&s.session, &rules, cookie.generation, slide, now);
            let change = match &used {
                CookieUse::Accepted { change, .. } => change.clone(),
                _ => Default::default(),
            };
            ((used, s.clone()), change)
        };
        (used, snapshot) = reseal_store::decide(&*app.store, cookie.session_id, app.event_until(now), again)
            .await?
            .ok_or_else(refused)?;
    }
    match used {
        CookieUse::Accepted { session, strength, send, .. } => {
            let scope = session.scope.intersection(&client.scope);
            let presented = Presented::Cookie { generation: cookie.generation, send };
            Ok(Caller { session, user: snapshot.user, client, policy, presented, strength, scope, now })
        }
        CookieUse::Superseded => Err(superseded()),
        CookieUse::Unknown => Err(refused()),
        CookieUse::Over(ended) => Err(ApiError::session_over(ended.reason)),
    }
}

/// The cookie, if we made it. A key that is not here yet is looked for once, as for refresh tokens.
async fn authenticate(
    app: &Authority,
    value: &str,
    refused: impl Fn() -> ApiError,
) -> ApiResult<SessionCookie> {
    let check = || {
        let cookie = UnverifiedSessionCookie::parse(value).map_err(|_| Unauthentic::Forged)?;
        let keys = app.keys.load();
        keys.ring.authenticate_session_cookie(cookie).map_err(|error| match error {
            Unauthentic::UnknownKey(id) if keys.ring.has_forgotten(id) => Unauthentic::Forged,
            other => other,
        })
    };
    if let Err(Unauthentic::UnknownKey(_)) = check()
        && let Err(error) = app.reload_keys_soon().await
    {
        tracing::error!(%error, "the keys could not be read again");
    }
    check().map_err(|e| match e {
        Unauthentic::Forged => refused(),
        Unauthentic::UnknownKey(_) => ApiError::unavailable(Duration::from_secs(1)),
    })
}

/// 401 for a credential that was replaced while its session lives.
pub fn superseded() -> ApiError {
    ApiError::invalid_token("This cookie was replaced by a newer one; the session lives.")
        .reason(reseal_core::touch::SUPERSEDED)
}

/// The policy of a session that lives; else the reason of its end.
pub fn live_policy(app: &Authority, session: &Session, now: Timestamp) -> ApiResult<Policy> {
    let Some(policy) = app.policy_of(session) else {
        let reason = session.ended.map_or(reseal_core::EndReason::Revoked, |e| e.reason);
        return Err(ApiError::session_over(reason));
    };
    match session.status(policy, now) {
        Status::Live(_) => Ok(policy.clone()),
        Status::Over(ended) => Err(ApiError::session_over(ended.reason)),
    }
}

/// The client of a session; without it (disabled, deleted) the session is over.
pub(crate) async fn client_of(app: &Authority, session: &Session) -> ApiResult<Arc<Client>> {
    crate::ops::access::note_client(&session.client_id);
    app.client(&session.client_id)
        .await?
        .ok_or_else(|| ApiError::session_over(reseal_core::EndReason::Revoked))
}

/// Verifies a bearer token of ours. A key that is not here yet (another node made it a moment ago) is looked for
/// once.
pub async fn verify_bearer(app: &Authority, token: &str, now: Timestamp) -> ApiResult<OwnClaims> {
    let mut verified = app.verify_access_token(token, now, false);
    if matches!(verified, Err(TokenFault::UnknownKey)) {
        if let Err(error) = app.reload_keys_soon().await {
            tracing::error!(%error, "the keys could not be read again");
            return Err(ApiError::unavailable(Duration::from_secs(1)));
        }
        verified = app.verify_access_token(token, now, false);
    }
    verified.map_err(|fault| {
        tracing::debug!(%fault, "access token refused");
        ApiError::invalid_token(match fault {
            TokenFault::Expired => "The access token has expired.",
            _ => "The access token is not valid here.",
        })
    })
}

/// The credential of a request: the access token if there is one, else the cookie.
fn credential(app: &Authority, headers: &HeaderMap) -> ApiResult<Option<Credential>> {
    if let Some(token) = bearer(headers)? {
        return Ok(Some(Credential::Bearer(token)));
    }
    Ok(session_cookie(headers, app.cookie_name()).map(Credential::Cookie))
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); `None` without that header.
pub fn bearer(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = || ApiError::invalid_request("The Authorization header must be `Bearer` and one token.");
    if values.next().is_some() {
        return Err(malformed());
    }
    let value = value.to_str().map_err(|_| malformed())?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim().to_owned()))
        }
        _ => Err(malformed()),
    }
}

/// The value of our cookie. Given twice (a sibling host may plant one) it counts as absent. What others'
/// cookies are made of, ASCII or not, is their affair.
pub fn session_cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    let mut ours =
        pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let value = ours.next()?;
    if ours.next().is_some() { None } else { String::from_utf8(value.to_vec()).ok() }
}

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The peer's address.
    pub ip: Option<IpAddr>,
    /// Its user agent.
    pub user_agent: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let ip = parts.extensions.get::<Peer>().map(|p| p.0);
        let user_agent = parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .map(|ua| ua.chars().filter(|c| !c.is_control()).take(Session::USER_AGENT_MAX).collect());
        Ok(Self { ip, user_agent })
    }
}

/// The peer's address, put into the request's extensions by the listener.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// An address as logs show it: itself, or a dash.
#[derive(Clone, Copy, Debug)]
pub struct ShownIp(pub Option<IpAddr>);

impl std::fmt::Display for ShownIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(ip) => ip.fmt(f),
            None => f.write_str("-"),
        }
    }
}
